/**
 * What a phase prints, on its way to four readers: the agent's parser, the event outbox, the
 * terminal recording and the raw log. The virtual key is cut out of all that leaves.
 */
import type { EventType } from "../orchestrator/contract/events.ts";
import type { AgentEvent, OutputParser } from "./agents/agent.ts";
import type { Artefact } from "./artefacts.ts";
import { createLines } from "./lines.ts";
import type { ProcessSpec } from "./process.ts";
import { type Terminal, withoutEscapes } from "./terminal.ts";

const SHOWN_MAX = 4_000;

export interface TranscriptReaders {
  readonly parser: OutputParser;
  readonly emit: (type: EventType, data: Record<string, unknown>) => void;
  readonly terminal: Terminal;
  readonly log: Artefact;
  /** Replaced wherever it shows. */
  readonly secret: string;
}

export interface Transcript {
  readonly onOutput: ProcessSpec["onOutput"];
  /** Reads what stands after the last line end. */
  end(): void;
}

/** A reader of one phase's output. */
export function createTranscript(readers: TranscriptReaders): Transcript {
  const { parser, emit, terminal, log, secret } = readers;
  const streams = { stdout: createLines(), stderr: createLines(), terminal: createLines() };
  return { onOutput, end };

  function onOutput(bytes: Buffer, stream: keyof typeof streams): void {
    if (stream === "terminal") terminal.raw(withoutSecret(bytes));
    for (const line of streams[stream].push(bytes)) read(line, stream);
  }

  function end(): void {
    for (const [stream, lines] of Object.entries(streams)) {
      for (const line of lines.end()) read(line, stream as keyof typeof streams);
    }
  }

  function read(line: string, stream: keyof typeof streams): void {
    const safe = secret === "" ? line : line.replaceAll(secret, "[key]");
    log.append(`${safe}\n`);
    const events = parser.push(stream === "terminal" ? withoutEscapes(safe) : safe);
    for (const { type, data } of events) emit(type, { ...data });
    if (stream === "terminal") return;
    // Lines of JSON are for programs; people are shown what they say.
    if (safe.startsWith("{")) for (const event of events) terminal.text(shown(event));
    else terminal.text(`${safe}\n`);
  }

  /** A key that is split between two reads shows in parts; it is revoked when the trial ends. */
  function withoutSecret(bytes: Buffer): Uint8Array {
    if (secret === "" || !bytes.includes(secret)) return bytes;
    return Buffer.from(bytes.toString("latin1").replaceAll(secret, "[key]"), "latin1");
  }
}

/** One event as a reader of the terminal sees it. */
function shown({ type, data }: AgentEvent): string {
  switch (type) {
    case "agent.message":
      return `${textOf(data["text"])}\n`;
    case "agent.reasoning":
      return `\u001b[2m${textOf(data["text"])}\u001b[0m\n`;
    case "agent.tool_call":
      return `\u001b[36m> ${textOf(data["name"])} ${textOf(data["arguments"])}\u001b[0m\n`;
    case "agent.tool_result":
      return `\u001b[${data["is_error"] === true ? "31" : "2"}m${textOf(data["text"])}\u001b[0m\n`;
    case "agent.error":
      return `\u001b[31m${textOf(data["message"])}\u001b[0m\n`;
    default:
      return "";
  }
}

/** Own colours are added by `shown`; the text's own escapes would end or forge them. */
function textOf(value: unknown): string {
  const text = typeof value === "string" ? value : (JSON.stringify(value) ?? "");
  const plain = withoutEscapes(text).replaceAll("\u001b", "");
  return plain.length > SHOWN_MAX ? `${plain.slice(0, SHOWN_MAX)}…` : plain;
}
