/**
 * The model server of the bench: one fixed answer, as cheap as Node can give it. A process of its
 * own, on raw sockets, so that it is never what limits a gateway.
 *
 *     node test/bench/gateway/upstream.ts <chunks of a stream> <ms between two of them>
 *
 * A body that has `"stream":true` in its first or last kilobyte is answered by a chat stream of so
 * many chunks, then usage, then [DONE]; any other by 1 KB of JSON.
 */
import { createServer, type Socket } from "node:net";

const [chunkCount = 50, everyMs = 20] = process.argv.slice(2).map(Number);
const HEAD_END = Buffer.from("\r\n\r\n");
const LENGTH = /content-length: *(\d+)/i;
const USAGE = { prompt_tokens: 500, completion_tokens: 50, total_tokens: 550 };

const JSON_ANSWER = (() => {
  const message = { role: "assistant", content: "x".repeat(700) };
  const choices = [{ index: 0, message, finish_reason: "stop" }];
  const answer = { id: "c", object: "chat.completion", created: 1, model: "m", choices };
  const body = JSON.stringify({ ...answer, usage: USAGE });
  const head = `HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n`;
  return Buffer.from(`${head}content-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`);
})();
const STREAM_HEAD = Buffer.from(
  "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
);
const CHUNK = frame({
  ...{ id: "chatcmpl-0123456789", object: "chat.completion.chunk", created: 1, model: "m" },
  choices: [{ index: 0, delta: { content: " token of some text" }, finish_reason: null }],
});
const LAST = Buffer.concat([
  frame({ id: "chatcmpl-0123456789", object: "chat.completion.chunk", choices: [], usage: USAGE }),
  Buffer.from("e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"),
]);

/** One HTTP chunk that is one event. */
function frame(event: unknown): Buffer {
  const data = `data: ${JSON.stringify(event)}\n\n`;
  return Buffer.from(`${data.length.toString(16)}\r\n${data}\r\n`);
}

/** Streams under way: how many chunks are left. One timer for all of them. */
const streams = new Map<Socket, number>();
if (everyMs > 0) {
  setInterval(() => {
    for (const [socket, left] of streams) {
      if (left > 0) {
        socket.write(CHUNK);
        streams.set(socket, left - 1);
      } else {
        streams.delete(socket);
        socket.write(LAST);
      }
    }
  }, everyMs);
}

const server = createServer({ noDelay: true }, (socket) => {
  let pending: Buffer = Buffer.alloc(0);
  let missing = 0;
  let isStream = false;
  let isInBody = false;
  socket.on("error", () => socket.destroy());
  socket.on("close", () => streams.delete(socket));
  socket.on("data", (chunk) => {
    let bytes: Buffer = pending.length > 0 ? Buffer.concat([pending, chunk]) : chunk;
    pending = Buffer.alloc(0);
    while (bytes.length > 0) {
      if (!isInBody) {
        const end = bytes.indexOf(HEAD_END);
        if (end === -1) {
          pending = bytes;
          return;
        }
        missing = Number(LENGTH.exec(bytes.toString("latin1", 0, end))?.[1] ?? 0);
        isStream = false;
        isInBody = true;
        bytes = bytes.subarray(end + 4);
      }
      const part = bytes.subarray(0, missing);
      isStream ||= part.subarray(0, 1_024).includes('"stream":true');
      isStream ||= part.subarray(-1_024).includes('"stream":true');
      missing -= part.length;
      bytes = bytes.subarray(part.length);
      if (missing > 0) return;
      isInBody = false;
      answer(socket, isStream);
    }
  });
});
server.listen(0, "127.0.0.1", () => {
  const address = server.address();
  if (typeof address === "object") process.stdout.write(`port ${address?.port}\n`);
});

function answer(socket: Socket, isStream: boolean): void {
  if (!isStream) {
    socket.write(JSON_ANSWER);
    return;
  }
  socket.write(STREAM_HEAD);
  if (everyMs > 0) {
    streams.set(socket, chunkCount);
    return;
  }
  for (let sent = 0; sent < chunkCount; sent++) socket.write(CHUNK);
  socket.write(LAST);
}
