/** The HTTP client of the command line, over the contract alone. */
import { randomBytes } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { createParser, type EventSourceMessage } from "eventsource-parser";
import type { Endpoint, ProblemBody } from "../contract/system.ts";
import type { CliConfig } from "./config.ts";
import { EXIT, Failure, failureOf } from "./failure.ts";

export interface Client {
  /** `Answer` is the contract's type of that route's answer. */
  get<Answer>(path: string): Promise<Answer>;
  text(path: string): Promise<string>;
  /** The answer's bytes as they come. */
  bytes(path: string): Promise<AsyncIterable<Uint8Array>>;
  /** Carries a fresh Idempotency-Key, and is sent again with it when the connection broke. */
  post<Answer>(path: string, body?: unknown): Promise<Answer>;
  /** The lines of a newline-delimited JSON answer, as they come; `signal` ends them. */
  postForLines<Line>(path: string, body?: unknown, signal?: AbortSignal): AsyncGenerator<Line>;
  /** A live stream, resumed after each break, until its `end` event. */
  events(path: string, signal?: AbortSignal): AsyncGenerator<EventSourceMessage>;
}

const RECONNECTS_MAX = 10;
const RECONNECT_MS = 500;
const PROBE_MS = 1_000;
const API = "/api/v1";
const PROBLEM_TEXTS = ["type", "title", "detail"] as const;

/**
 * A client for the server that the configuration names.
 *
 * @throws Failure when there is none.
 */
export async function openClient(config: CliConfig): Promise<Client> {
  return createClient(await readEndpoint(config), () => readEndpoint(config));
}

/**
 * @param again where to ask when that server is gone: of several orchestrators any other will do.
 */
export function createClient(first: Endpoint, again: () => Promise<Endpoint>): Client {
  let { url, token } = first;
  return { get, text, bytes, post, postForLines, events };

  async function get<Answer>(path: string): Promise<Answer> {
    return (await (await send("GET", path)).json()) as Answer;
  }

  async function text(path: string): Promise<string> {
    return (await send("GET", path)).text();
  }

  async function bytes(path: string): Promise<AsyncIterable<Uint8Array>> {
    return (await send("GET", path)).body ?? emptyBody();
  }

  async function post<Answer>(path: string, body?: unknown): Promise<Answer> {
    const headers = { "idempotency-key": randomBytes(16).toString("hex") };
    const answer = await send("POST", path, { body, headers, tries: 2 });
    return (await answer.json()) as Answer;
  }

  async function* postForLines<Line>(
    path: string,
    body?: unknown,
    signal?: AbortSignal,
  ): AsyncGenerator<Line> {
    const answer = await send("POST", path, { body, ...(signal && { signal }) });
    let pending = "";
    for await (const chunk of (answer.body ?? emptyBody()).pipeThrough(new TextDecoderStream())) {
      const lines = (pending + chunk).split("\n");
      pending = lines.pop() ?? "";
      for (const line of lines) if (line !== "") yield JSON.parse(line) as Line;
    }
  }

  async function* events(path: string, signal?: AbortSignal): AsyncGenerator<EventSourceMessage> {
    let lastId: string | undefined;
    for (let breaks = 0; breaks <= RECONNECTS_MAX; breaks++) {
      try {
        const headers: Record<string, string> = { accept: "text/event-stream" };
        if (lastId !== undefined) headers["last-event-id"] = lastId;
        const answer = await send("GET", path, { headers, ...(signal && { signal }) });
        if (answer.status === 204) return;
        for await (const event of readEvents(answer)) {
          if (event.event === "end") return;
          lastId = event.id ?? lastId;
          breaks = 0;
          yield event;
        }
      } catch (error) {
        if (signal?.aborted) return;
        if (error instanceof Failure && error.exit !== EXIT.unavailable) throw error;
        if (breaks === RECONNECTS_MAX) throw error;
        // What was seen has a number, the same at all orchestrators of a database.
        ({ url, token } = await again().catch(() => ({ url, token })));
      }
      await new Promise((resolve) => setTimeout(resolve, RECONNECT_MS));
      if (signal?.aborted) return;
    }
  }

  async function send(
    method: string,
    path: string,
    {
      body,
      headers = {},
      signal,
      tries = 1,
    }: { body?: unknown; headers?: object; signal?: AbortSignal; tries?: number } = {},
  ): Promise<Response> {
    let answer: Response;
    try {
      answer = await fetch(new URL(path.startsWith("/") ? path : `${API}/${path}`, url), {
        method,
        headers: {
          authorization: `Bearer ${token}`,
          ...(body === undefined ? {} : { "content-type": "application/json" }),
          ...headers,
        },
        redirect: "error",
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        ...(signal && { signal }),
      });
    } catch (cause) {
      if (signal?.aborted) throw cause;
      if (tries > 1) return send(method, path, { body, headers, tries: tries - 1 });
      throw notRunning(url, cause);
    }
    if (answer.ok) return answer;
    throw await refusal(answer);
  }
}

async function* readEvents(answer: Response): AsyncGenerator<EventSourceMessage> {
  const received: EventSourceMessage[] = [];
  const parser = createParser({ onEvent: (event) => void received.push(event) });
  for await (const chunk of (answer.body ?? emptyBody()).pipeThrough(new TextDecoderStream())) {
    parser.feed(chunk);
    yield* received.splice(0);
  }
}

async function refusal(answer: Response): Promise<Failure> {
  const text = await answer.text();
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch {
    body = null;
  }
  if (isProblem(body)) {
    const failure = failureOf(body);
    // A token with a name was good once: the server says why it no longer is.
    if (answer.status !== 401 || hasTexts<{ reason: string }>(body, ["reason"])) return failure;
    return new Failure(
      failure.exit,
      "The server does not know our token. Restart it with `npm start`, or set AUTOCODE_TOKEN",
    );
  }
  return new Failure(EXIT.failed, `The server answered ${answer.status}, and not as autocode does`);
}

async function readEndpoint({ url, token, endpointFile }: CliConfig): Promise<Endpoint> {
  if (url !== undefined && !URL.canParse(url)) {
    throw new Failure(EXIT.usage, `AUTOCODE_URL: "${url}" is no address`);
  }
  if (url !== undefined && token !== undefined) return { url, token };
  let text: string;
  const file = await choosePath(endpointFile);
  try {
    text = await readFile(file, "utf8");
  } catch (cause) {
    if (url !== undefined) {
      throw new Failure(EXIT.usage, "AUTOCODE_URL is set: set AUTOCODE_TOKEN as well", cause);
    }
    throw new Failure(
      EXIT.unavailable,
      "autocode is not running here: start it with `npm start` or `autocode up`",
      cause,
    );
  }
  let written: unknown;
  try {
    written = JSON.parse(text);
  } catch {
    written = null;
  }
  if (!hasTexts<Endpoint>(written, ["url", "token"])) {
    throw new Failure(EXIT.failed, `${file} is damaged: restart with \`npm start\``);
  }
  return { url: url ?? written.url, token: token ?? written.token };
}

function isProblem(body: unknown): body is ProblemBody {
  return hasTexts<ProblemBody>(body, PROBLEM_TEXTS) && typeof body.status === "number";
}

/** By hand: the contract's schemas take longer to load than most commands to run. */
function hasTexts<Body>(value: unknown, names: readonly (keyof Body & string)[]): value is Body {
  if (typeof value !== "object" || value === null) return false;
  return names.every((name) => typeof (value as Record<string, unknown>)[name] === "string");
}

/** Where several orchestrators share the folder, the first that answers: any of them will do. */
async function choosePath(endpointFile: string): Promise<string> {
  const dir = dirname(endpointFile);
  const names = await readdir(dir).catch((): string[] => []);
  const others = names.filter((name) => /^endpoint-[0-9]+[.]json$/.test(name)).toSorted();
  if (others.length === 0) return endpointFile;
  const all = [endpointFile, ...others.map((name) => join(dir, name))];
  for (const path of all) if (await answers(path)) return path;
  return endpointFile;
}

async function answers(path: string): Promise<boolean> {
  try {
    const { url } = JSON.parse(await readFile(path, "utf8")) as { url: string };
    const signal = AbortSignal.timeout(PROBE_MS);
    return (await fetch(new URL("/healthz", url), { signal, redirect: "error" })).ok;
  } catch {
    return false;
  }
}

function notRunning(url: string, cause: unknown): Failure {
  return new Failure(
    EXIT.unavailable,
    `autocode does not answer at ${url}: start it with \`npm start\` or \`autocode up\``,
    cause,
  );
}

function emptyBody(): ReadableStream<Uint8Array<ArrayBuffer>> {
  return new ReadableStream({ start: (controller) => controller.close() });
}
