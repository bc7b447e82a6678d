/**
 * The load: HTTP/1.1 over raw sockets, cheap enough that two cores measure the gateway and not it.
 * Every answer is read to its end; chunked answers frame by frame, so that what a proxy joined or
 * cut is seen.
 */
import { connect, type Socket } from "node:net";

export interface Target {
  port: number;
  path: string;
  headers: Readonly<Record<string, string>>;
}

export interface Answer {
  status: number;
  bodyBytes: number;
  /** HTTP chunks of a chunked answer that were not empty. */
  frames: number;
  /** From sending to the first byte of the body, and to the end. */
  firstMs: number;
  tookMs: number;
  /** The beginning of a body that was refused. */
  text: string;
}

export interface Connection {
  send(request: Buffer): Promise<Answer>;
  close(): void;
}

const HEAD_END = Buffer.from("\r\n\r\n");
const TEXT_BYTES_MAX = 300;

/** A whole request; `keys`: each has its own Authorization header, in turns. */
export function requestOf(target: Target, body: Buffer, key: string | null): Buffer {
  const headers = {
    host: `127.0.0.1:${target.port}`,
    "content-type": "application/json",
    "content-length": String(body.length),
    ...target.headers,
    ...(key === null ? {} : { authorization: `Bearer ${key}` }),
  };
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  return Buffer.concat([
    Buffer.from(`POST ${target.path} HTTP/1.1\r\n${lines.join("")}\r\n`),
    body,
  ]);
}

export async function openConnection(port: number): Promise<Connection> {
  const socket: Socket = connect({ port, host: "127.0.0.1", noDelay: true });
  await new Promise<void>((resolve, reject) => {
    socket.once("connect", resolve);
    socket.once("error", reject);
  });
  let waiting: { resolve(answer: Answer): void; reject(error: Error): void } | null = null;
  let reader = createReader(0);
  socket.on("data", (chunk) => {
    const answer = reader(chunk);
    if (answer === null) return;
    const done = waiting;
    waiting = null;
    done?.resolve(answer);
  });
  const fail = (error: Error) => {
    waiting?.reject(error);
    waiting = null;
  };
  socket.on("error", fail);
  socket.on("close", () => fail(new Error("the connection was closed")));
  return { send, close: () => socket.destroy() };

  function send(request: Buffer): Promise<Answer> {
    return new Promise((resolve, reject) => {
      if (socket.destroyed) return reject(new Error("the connection was closed"));
      waiting = { resolve, reject };
      reader = createReader(performance.now());
      socket.write(request);
    });
  }
}

/** Takes what comes; the answer once it is whole, null before. */
function createReader(startMs: number): (chunk: Buffer) => Answer | null {
  let head: Buffer = Buffer.alloc(0);
  let isInBody = false;
  let isChunked = false;
  let missing = 0;
  let sizeLine = "";
  let text = "";
  const answer: Answer = { status: 0, bodyBytes: 0, frames: 0, firstMs: 0, tookMs: 0, text: "" };

  return (chunk) => {
    let bytes = chunk;
    if (!isInBody) {
      head = head.length > 0 ? Buffer.concat([head, chunk]) : chunk;
      const end = head.indexOf(HEAD_END);
      if (end === -1) return null;
      const lines = head.toString("latin1", 0, end).toLowerCase();
      answer.status = Number(lines.slice(9, 12));
      isChunked = lines.includes("transfer-encoding: chunked");
      missing = isChunked ? -1 : Number(/content-length: *(\d+)/.exec(lines)?.[1] ?? 0);
      bytes = head.subarray(end + 4);
      isInBody = true;
      if (!isChunked && missing === 0) return whole();
    }
    if (bytes.length === 0) return null;
    if (answer.firstMs === 0) answer.firstMs = performance.now() - startMs;
    if (answer.status !== 200 && text.length < TEXT_BYTES_MAX) text += bytes.toString("latin1");
    return isChunked ? readChunks(bytes) : readLength(bytes);
  };

  function readLength(bytes: Buffer): Answer | null {
    answer.bodyBytes += bytes.length;
    missing -= bytes.length;
    return missing > 0 ? null : whole();
  }

  /** `missing`: -1 while the size line is read; else bytes left of the chunk and its line end. */
  function readChunks(bytes: Buffer): Answer | null {
    for (let at = 0; at < bytes.length; ) {
      if (missing === -1) {
        const lineEnd = bytes.indexOf(10, at);
        sizeLine += bytes.toString("latin1", at, lineEnd === -1 ? bytes.length : lineEnd);
        if (lineEnd === -1) return null;
        at = lineEnd + 1;
        const size = Number.parseInt(sizeLine, 16);
        sizeLine = "";
        if (size > 0) answer.frames++;
        answer.bodyBytes += size;
        missing = size + 2;
        if (size === 0) answer.tookMs = -1;
      }
      const taken = Math.min(missing, bytes.length - at);
      missing -= taken;
      at += taken;
      if (missing > 0) return null;
      missing = -1;
      if (answer.tookMs === -1) return whole();
    }
    return null;
  }

  function whole(): Answer {
    answer.tookMs = performance.now() - startMs;
    answer.text = text.slice(0, TEXT_BYTES_MAX);
    return answer;
  }
}

export interface LoadResult {
  answers: number;
  seconds: number;
  failures: number;
  /** What the first failure said. */
  failure: string;
  tookMs: number[];
  firstMs: number[];
  frames: number;
}

function emptyResult(): LoadResult {
  const lists = { tookMs: [] as number[], firstMs: [] as number[] };
  return { answers: 0, seconds: 0, failures: 0, failure: "", frames: 0, ...lists };
}

function note(result: LoadResult, answer: Answer, tookMs: number): void {
  if (answer.status !== 200) {
    result.failures++;
    result.failure ||= `${answer.status} ${answer.text}`;
    return;
  }
  result.answers++;
  result.frames += answer.frames;
  result.tookMs.push(tookMs);
  result.firstMs.push(answer.firstMs);
}

function noteFailure(result: LoadResult, error: unknown): void {
  result.failures++;
  result.failure ||= error instanceof Error ? error.message : String(error);
}

/** `callers` at once, each with its next request as soon as it has its answer. */
export async function closedLoop(
  port: number,
  requests: readonly Buffer[],
  { callers, forMs }: { callers: number; forMs: number },
): Promise<LoadResult> {
  const result = emptyResult();
  const startMs = performance.now();
  const endMs = startMs + forMs;
  let next = 0;
  await Promise.all(
    Array.from({ length: callers }, async () => {
      let connection = await openConnection(port);
      while (performance.now() < endMs) {
        const request = requests[next++ % requests.length] as Buffer;
        try {
          const answer = await connection.send(request);
          note(result, answer, answer.tookMs);
        } catch (error) {
          noteFailure(result, error);
          connection.close();
          connection = await openConnection(port);
        }
      }
      connection.close();
    }),
  );
  result.seconds = (performance.now() - startMs) / 1_000;
  return result;
}

/**
 * Requests at a fixed rate, whether or not earlier ones are answered: each goes out on a connection
 * that is idle, on a new one where none is.
 */
export async function openLoop(
  port: number,
  requests: readonly Buffer[],
  { perSecond, forMs }: { perSecond: number; forMs: number },
): Promise<LoadResult> {
  const result = emptyResult();
  const idle: Connection[] = await Promise.all(
    Array.from({ length: 64 }, () => openConnection(port)),
  );
  const running = new Set<Promise<void>>();
  const startMs = performance.now();
  const total = Math.floor((perSecond * forMs) / 1_000);
  for (let sent = 0; sent < total; ) {
    const dueCount = Math.min(total, ((performance.now() - startMs) * perSecond) / 1_000);
    for (; sent < dueCount; sent++) {
      const promise = one(requests[sent % requests.length] as Buffer);
      running.add(promise);
      void promise.finally(() => running.delete(promise));
    }
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  await Promise.all(running);
  result.seconds = (performance.now() - startMs) / 1_000;
  for (const connection of idle) connection.close();
  return result;

  async function one(request: Buffer): Promise<void> {
    try {
      const connection = idle.pop() ?? (await openConnection(port));
      const answer = await connection.send(request);
      note(result, answer, answer.tookMs);
      idle.push(connection);
    } catch (error) {
      noteFailure(result, error);
    }
  }
}

/** `count` requests, begun evenly over `overMs`; resolves when all have their whole answer. */
export async function spread(
  port: number,
  requests: readonly Buffer[],
  { count, overMs }: { count: number; overMs: number },
): Promise<LoadResult> {
  const result = emptyResult();
  const startMs = performance.now();
  await Promise.all(
    Array.from({ length: count }, async (_, index) => {
      await new Promise((resolve) => setTimeout(resolve, (index * overMs) / count));
      try {
        const connection = await openConnection(port);
        const answer = await connection.send(requests[index % requests.length] as Buffer);
        note(result, answer, answer.tookMs);
        connection.close();
      } catch (error) {
        noteFailure(result, error);
      }
    }),
  );
  result.seconds = (performance.now() - startMs) / 1_000;
  return result;
}
