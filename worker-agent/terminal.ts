/**
 * The recording of what a terminal would have shown, as an asciicast (version 2).
 *
 * A pseudo-terminal's bytes are recorded as they are. Text of a headless process is made safe
 * first: of the escape codes only colours are kept, since its text may come from a repository or a
 * model and is replayed in a reader's terminal.
 */
import { StringDecoder } from "node:string_decoder";
import type { Artefact } from "./artefacts.ts";
import type { Clock } from "./clock.ts";

export const TERMINAL_WIDTH = 100;
export const TERMINAL_HEIGHT = 30;

export interface Terminal {
  /** Bytes that a pseudo-terminal gave, unchanged. */
  raw(bytes: Uint8Array): void;
  /** Text of a headless process, or our own rendering of its events. */
  text(text: string): void;
}

/** Starts a recording in `artefact`; its first line, the header, is written at once. */
export function createTerminal(clock: Clock, artefact: Artefact, title: string): Terminal {
  const startedMs = clock.now();
  const decoder = new StringDecoder("utf8");
  const header = {
    version: 2,
    width: TERMINAL_WIDTH,
    height: TERMINAL_HEIGHT,
    timestamp: Math.floor(startedMs / 1_000),
    title,
  };
  artefact.append(`${JSON.stringify(header)}\n`);
  return { raw, text };

  function raw(bytes: Uint8Array): void {
    record(decoder.write(Buffer.from(bytes)));
  }

  function text(shown: string): void {
    record(withoutEscapes(shown).replaceAll(/\r?\n/g, "\r\n"));
  }

  function record(data: string): void {
    if (data === "") return;
    const seconds = Number(((clock.now() - startedMs) / 1_000).toFixed(3));
    artefact.append(`${JSON.stringify([Math.max(seconds, 0), "o", data])}\n`);
  }
}

const ESC = "\u001b";
const BEL = "\u0007";
const COLOUR = new RegExp(`${ESC}\\[[0-9;:]*m`, "y");
const ESCAPES = new RegExp(
  [
    `${ESC}\\[[0-?]*[ -/]*[@-~]`, // a control sequence, CSI
    `${ESC}[\\]PX^_][^${BEL}${ESC}]*(?:${BEL}|${ESC}\\\\|$)`, // a string: OSC, DCS, SOS, PM, APC
    `${ESC}[ -/]*[0-~]?`, // any other escape
    "[\\u0000-\\u0008\\u000b\\u000c\\u000e-\\u001a\\u001c-\\u001f\\u007f-\\u009f]",
  ].join("|"),
  "g",
);

/** The text without terminal escape codes and control characters, colours and line ends apart. */
export function withoutEscapes(text: string): string {
  return text.replaceAll(ESCAPES, (found, offset: number) => {
    COLOUR.lastIndex = offset;
    return COLOUR.exec(text)?.[0] === found ? found : "";
  });
}
