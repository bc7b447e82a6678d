/**
 * One run of a cassette: which recorded exchange answers which request. Requests may come in
 * another order than they were recorded in, as agents ask for several things at once; of equal
 * ones the k-th has the k-th answer.
 *
 * Invariant: an exchange is played once; only reading again what was read (GET, HEAD) repeats the
 * last answer. What the record has not is told once, the first time; nothing is made up.
 */
import type { Cassette, Divergence, Exchange } from "../../orchestrator/contract/cassettes.ts";
import { differenceOf, type Normal, normalise, normalisePath } from "./normal.ts";
import { renamed } from "./rename.ts";

export interface Asked {
  readonly door: Exchange["door"];
  readonly method: string;
  /** Of the egress door: `https://host:port`; the gateway is wherever it is. */
  readonly origin: string | null;
  /** Path and query. */
  readonly path: string;
  /** Null: it has none, or it is not compared. */
  readonly body: string | null;
}

export type Played =
  | { readonly outcome: "played"; readonly position: number; readonly response: Answer | null }
  | {
      readonly outcome: "diverged";
      readonly divergence: Divergence;
      /** No request before it was lacking. */
      readonly isFirst: boolean;
    };

export interface Answer {
  readonly status: number;
  readonly headers: readonly (readonly [string, string])[];
  readonly body: Buffer;
}

export interface Playback {
  ask(asked: Asked): Played;
  /** Exchanges of the record that nobody has asked for. */
  left(): number;
  /** What it holds in memory, estimated. */
  readonly byteCount: number;
}

/** How far a run is: little, so that it outlives the record's bodies in memory. */
export interface Progress {
  /** Exchanges by their place in the record, from 0. */
  readonly played: Set<number>;
  /** The folders of the recorded allocation, and what stands in their place in the replay. */
  readonly folders: Map<string, string>;
  hasDiverged: boolean;
}

/** Of an exchange what a run needs: its request as it is compared, its answer as it was. */
interface Recorded extends Pick<Exchange, "position" | "door" | "response"> {
  readonly place: number;
  readonly line: string;
  readonly body: Normal | null;
}

const TOLD_MAX = 2_000;
/** Of an exchange without its bodies: its headers above all. */
const EXCHANGE_BYTES = 2_048;

export function createProgress(): Progress {
  return { played: new Set(), folders: new Map(), hasDiverged: false };
}

/**
 * @param redact what the record's bodies went through, which a request is compared after.
 * @param progress where the run goes on, and what it goes on in.
 */
export function createPlayback(
  { exchanges }: Pick<Cassette, "exchanges">,
  redact: (text: string) => string = (text) => text,
  progress: Progress = createProgress(),
): Playback {
  const recorded = exchanges.map(toRecorded);
  const { played, folders } = progress;
  const isLeft = ({ place }: Recorded) => !played.has(place);
  const byteCount = recorded.reduce((sum, each) => sum + byteCountOf(each), 0);
  return { ask, left: () => recorded.filter(isLeft).length, byteCount };

  function ask(asked: Asked): Played {
    const line = lineOf(asked);
    const body = asked.body === null || asked.body === "" ? null : normalise(redact(asked.body));
    const same = recorded.filter(
      (each) => each.line === line && (each.body?.text ?? null) === (body?.text ?? null),
    );
    const isRead = asked.method === "GET" || asked.method === "HEAD";
    const found = same.find(isLeft) ?? (isRead ? same.at(-1) : undefined);
    if (found === undefined) return diverged(line, body, asked.door);
    played.add(found.place);
    learn(found.body, body);
    return { outcome: "played", position: found.position, response: answerOf(found) };
  }

  function diverged(line: string, body: Normal | null, door: Exchange["door"]): Played {
    const next = recorded.find((each) => isLeft(each) && each.door === door);
    const isFirst = !progress.hasDiverged;
    progress.hasDiverged = true;
    const position = next?.position ?? recorded.length + 1;
    const told = tellDifference(next ?? null, line, body);
    return { outcome: "diverged", divergence: { position, ...told }, isFirst };
  }

  /** Equal texts have their folders in the same places. */
  function learn(before: Normal | null, now: Normal | null): void {
    for (const [index, folder] of (before?.folders ?? []).entries()) {
      const other = now?.folders[index];
      if (other !== undefined && other !== folder) folders.set(folder, other);
    }
  }

  function answerOf({ response }: Recorded): Answer | null {
    if (response === null) return null;
    const { status, headers, body } = response;
    const isText = body?.encoding === "utf8";
    const bytes = Buffer.from(body?.content ?? "", isText ? "utf8" : "base64");
    if (!isText || folders.size === 0) return { status, headers, body: bytes };
    const isStream = /^text\/event-stream\b/i.test(body?.media_type ?? "");
    return { status, headers, body: Buffer.from(renamed(body?.content ?? "", folders, isStream)) };
  }

  function toRecorded(exchange: Exchange, place: number): Recorded {
    const { position, door, request, response } = exchange;
    const path = `${request.path}${request.query === null ? "" : `?${request.query}`}`;
    const origin = `${request.scheme}://${request.host}:${request.port}`;
    const content = door === "egress" ? null : (request.body?.content ?? null);
    return {
      ...{ place, position, door, response },
      line: lineOf({ door, method: request.method, origin, path, body: null }),
      body: content === null || content === "" ? null : normalise(content),
    };
  }
}

/** A text of Latin letters alone takes one byte for each, any other two. */
function byteCountOf({ line, body, response }: Recorded): number {
  const texts = [line, body?.text ?? "", response?.body?.content ?? ""];
  const bytesOf = (text: string) => (/[^\0-\xff]/.test(text) ? 2 : 1) * text.length;
  return texts.reduce((sum, text) => sum + bytesOf(text), EXCHANGE_BYTES);
}

function lineOf({ door, method, origin, path }: Asked): string {
  const at = door === "gateway" ? "" : (origin ?? "");
  return `${method} ${at}${normalisePath(path)}`;
}

function tellDifference(
  next: Recorded | null,
  line: string,
  body: Normal | null,
): Pick<Divergence, "expected" | "asked"> {
  const cut = (text: string) => text.slice(0, TOLD_MAX);
  if (next === null) return { expected: "nothing more", asked: cut(line) };
  if (next.line !== line) return { expected: cut(next.line), asked: cut(line) };
  const empty = normalise("");
  const found = differenceOf(next.body ?? empty, body ?? empty);
  if (found === null) return { expected: cut(line), asked: cut(`${line}, once more`) };
  const where = found.where === "" ? "its body" : found.where;
  return {
    expected: cut(`${line}, ${where}: ${found.expected}`),
    asked: cut(`${line}, ${where}: ${found.asked}`),
  };
}
