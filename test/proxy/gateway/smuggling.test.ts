/**
 * Goal (S9): no request has a second one hidden in it: what a server behind the gateway gets is
 * what the gateway billed, request for request and byte for byte.
 *
 * Method: raw bytes on a socket; then the requests that the model server received are held against
 * the calls in the books. A hidden request would ask for `thinking`, and none may arrive.
 */
import assert from "node:assert/strict";
import { connect } from "node:net";
import test from "node:test";
import { openTestGateway, type TestGateway } from "../../support/gateway.ts";

const BODY = '{"model":"normal","max_tokens":9}';
const HIDDEN_BODY = '{"model":"thinking","max_tokens":9}';
const PATH = "/v1/chat/completions";
const LENGTH = `content-length: ${BODY.length}`;
const CHUNKED = "transfer-encoding: chunked";
const IN_CHUNKS = `${BODY.length.toString(16)}\r\n${BODY}\r\n0\r\n\r\n`;

interface Raw {
  /** A request with these header lines and this body. */
  head: (lines: string, start?: string) => string;
  /** A whole request for the other model. */
  hidden: string;
}

type Make = (raw: Raw) => string;

const REFUSED: Record<string, Make> = {
  "length and chunks": ({ head, hidden }) => `${head(`${LENGTH}\r\n${CHUNKED}`)}0\r\n\r\n${hidden}`,
  "chunks and length": ({ head, hidden }) => `${head(`${CHUNKED}\r\n${LENGTH}`)}0\r\n\r\n${hidden}`,
  "two lengths": ({ head, hidden }) => head(`${LENGTH}\r\ncontent-length: 2`) + BODY + hidden,
  "one length twice": ({ head }) => head(`${LENGTH}\r\n${LENGTH}`) + BODY,
  "a list of lengths": ({ head }) => head(`content-length: ${BODY.length}, 2`) + BODY,
  "a signed length": ({ head }) => head(`content-length: +${BODY.length}`) + BODY,
  "a negative length": ({ head }) => head("content-length: -1") + BODY,
  "a length in hex": ({ head }) => head("content-length: 0x21") + BODY,
  "a length with a point": ({ head }) => head("content-length: 33.0") + BODY,
  "no length at all": ({ head }) => head("content-length: ") + BODY,
  "a length past 2^64": ({ head }) => head("content-length: 99999999999999999999999") + BODY,
  "chunked, then identity": ({ head }) => head("transfer-encoding: chunked, identity") + IN_CHUNKS,
  "an unknown coding": ({ head }) => head("transfer-encoding: xchunked") + IN_CHUNKS,
  "gzip last": ({ head }) => head("transfer-encoding: chunked, gzip") + IN_CHUNKS,
  "an unknown coding beside it": ({ head }) =>
    head(`${CHUNKED}\r\ntransfer-encoding: x`) + IN_CHUNKS,
  "a space before the colon": ({ head }) => head(`content-length : ${BODY.length}`) + BODY,
  "a tab before the colon": ({ head }) => head(`transfer-encoding\t: chunked`) + IN_CHUNKS,
  "a vertical tab": ({ head }) => head("transfer-encoding:\x0bchunked") + IN_CHUNKS,
  "a folded line": ({ head }) => head(`x: 1\r\n ${CHUNKED}\r\n${LENGTH}`) + BODY,
  "a folded coding": ({ head }) => head("transfer-encoding:\r\n chunked") + IN_CHUNKS,
  "bare line feeds": ({ head }) => head(`${LENGTH}\nx: 1`) + BODY,
  "a bare carriage return": ({ head }) => head(`x: a\rb\r\n${LENGTH}`) + BODY,
  "a NUL in a header": ({ head }) => head(`x: a\0b\r\n${LENGTH}`) + BODY,
  "a NUL in a name": ({ head }) => head(`content\0-length: 33\r\n${LENGTH}`) + BODY,
  "no host": ({ head }) => head(LENGTH).replace("host: x\r\n", "") + BODY,
  "a chunk of no size": ({ head }) => `${head(CHUNKED)}zz\r\n${BODY}\r\n0\r\n\r\n`,
  "a chunk past 2^64": ({ head }) => `${head(CHUNKED)}ffffffffffffffffff\r\n${BODY}\r\n0\r\n\r\n`,
  "a signed chunk": ({ head }) => `${head(CHUNKED)}+21\r\n${BODY}\r\n0\r\n\r\n`,
  "a chunk longer than it says": ({ head }) => `${head(CHUNKED)}5\r\n${BODY}\r\n0\r\n\r\n`,
  "chunks with line feeds": ({ head }) => head(CHUNKED) + IN_CHUNKS.replaceAll("\r\n", "\n"),
  "a length in a trailer": ({ head }) =>
    head(CHUNKED) + IN_CHUNKS.replace(/\r\n$/, "content-length: 5\r\n\r\n"),
  "a huge chunk extension": ({ head }) =>
    `${head(CHUNKED)}21;x=${"y".repeat(20_000)}\r\n${BODY}\r\n0\r\n\r\n`,
  "a header of 20 KB": ({ head }) => head(`x: ${"y".repeat(20_000)}\r\n${LENGTH}`) + BODY,
  "2,000 headers of no end": ({ head }) => head(`${"x: 1\r\n".repeat(4_000)}${LENGTH}`) + BODY,
  "a space in the target": ({ head }) => head(LENGTH, `POST ${PATH} x HTTP/1.1`) + BODY,
  "another protocol": ({ head }) => head(LENGTH, `POST ${PATH} HTTP/9.9`) + BODY,
  "an unknown method": ({ head }) => head(LENGTH, `SMUGGLE ${PATH} HTTP/1.1`) + BODY,
  "a target of another host": ({ head }) =>
    head(LENGTH, `POST http://169.254.169.254${PATH} HTTP/1.1`) + BODY,
  "a tunnel": ({ head }) => head("", "CONNECT 169.254.169.254:80 HTTP/1.1"),
  "the preface of HTTP/2": () => "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
};

/** What is odd and clear: it passes, and each request that is in it is billed for itself. */
const PASSED: Record<string, { make: Make; calls: number }> = {
  plain: { make: ({ head }) => head(LENGTH) + BODY, calls: 1 },
  chunks: { make: ({ head }) => head(CHUNKED) + IN_CHUNKS, calls: 1 },
  "a chunk a byte": {
    make: ({ head }) =>
      `${head(CHUNKED)}${[...BODY].map((char) => `1\r\n${char}\r\n`).join("")}0\r\n\r\n`,
    calls: 1,
  },
  "trailers that are headers": {
    make: ({ head }) =>
      head(CHUNKED) + IN_CHUNKS.replace(/\r\n$/, "x-api-key: y\r\nhost: y\r\n\r\n"),
    calls: 1,
  },
  "two hosts": { make: ({ head }) => head(`host: other\r\n${LENGTH}`) + BODY, calls: 1 },
  "an upgrade to HTTP/2": {
    make: ({ head }) =>
      head(
        `connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAA\r\n${LENGTH}`,
      ) + BODY,
    calls: 1,
  },
  "two in one line": { make: ({ head }) => (head(LENGTH) + BODY).repeat(2), calls: 2 },
};

/** Sends the bytes and returns what came until the gateway closes, or has been silent for long. */
function send(world: TestGateway, bytes: string): Promise<string> {
  const { hostname, port } = new URL(world.url);
  const { promise, resolve } = Promise.withResolvers<string>();
  const socket = connect({ host: hostname, port: Number(port) });
  let answer = "";
  socket.setTimeout(1_000, () => socket.destroy());
  socket.on("data", (chunk) => {
    answer += chunk.toString("latin1");
  });
  socket.on("error", () => undefined);
  socket.on("close", () => resolve(answer));
  socket.write(Buffer.from(bytes, "latin1"));
  return promise;
}

function rawOf(world: TestGateway): Raw {
  const head = (lines: string, start = `POST ${PATH} HTTP/1.1`) =>
    `${start}\r\nhost: x\r\nauthorization: Bearer ${world.secret}\r\n${lines}\r\n\r\n`;
  return { head, hidden: head(`content-length: ${HIDDEN_BODY.length}`) + HIDDEN_BODY };
}

/** Every request upstream is a call in the books, and is what its client sent. */
async function checkHops(world: TestGateway, expected: number): Promise<void> {
  await world.quiet(world.budget);
  const [calls, { requests }] = [await world.calls(), world.models];
  assert.deepEqual([requests.length, calls.length], [expected, expected]);
  const passed = BODY.replace("normal", "vendor/normal");
  for (const { method, url, text, headers } of requests) {
    assert.deepEqual([method, url, text], ["POST", PATH, passed]);
    assert.equal(headers["content-length"], String(passed.length));
    assert.equal(headers["transfer-encoding"], undefined);
  }
}

test(`S9: ${Object.keys(REFUSED).length} requests that hide another are refused`, async () => {
  await using world = await openTestGateway();
  const raw = rawOf(world);
  const answers = await Promise.all(
    Object.entries(REFUSED).map(async ([what, make]) => [what, await send(world, make(raw))]),
  );
  const passed = answers.filter(([, answer]) => !/^(HTTP\/1\.1 (4\d\d|505) |$)/.test(answer ?? ""));
  assert.deepEqual(passed, []);
  await checkHops(world, 0);
});

for (const [what, { make, calls }] of Object.entries(PASSED)) {
  test(`S9: ${what}: what is forwarded is what is billed`, async () => {
    await using world = await openTestGateway();
    const answer = await send(world, make(rawOf(world)));
    assert.equal(answer.match(/HTTP\/1\.1 200 /g)?.length, calls);
    await checkHops(world, calls);
  });
}
