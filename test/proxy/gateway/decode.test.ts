/** Goal: what was compressed comes out as it was, however it is cut, and a bomb does not. */
import assert from "node:assert/strict";
import test from "node:test";
import { promisify } from "node:util";
import * as zlib from "node:zlib";
import fc from "fast-check";
import { createDecoder, isPlain } from "../../../proxy/gateway/decode.ts";

const PACKERS: Record<string, (bytes: Buffer) => Promise<Buffer>> = {
  gzip: promisify(zlib.gzip),
  deflate: promisify(zlib.deflate),
  br: promisify(zlib.brotliCompress),
  zstd: promisify(zlib.zstdCompress),
};

/** What comes out of `chunks`, or the error's message. */
function decode(encoding: unknown, chunks: readonly Buffer[], bytesMax = 1e9): Promise<string> {
  return new Promise((resolve) => {
    const parts: Buffer[] = [];
    const decoder = createDecoder(encoding, bytesMax, {
      onData: (chunk) => void parts.push(chunk),
      onEnd: () => resolve(Buffer.concat(parts).toString()),
      onError: ({ message }) => resolve(`failed: ${message}`),
    });
    for (const chunk of chunks) decoder?.push(chunk);
    decoder?.end();
  });
}

const TEXT = 'data: {"usage":{"completion_tokens":7}} é漢😀\n\n'.repeat(20);

for (const [encoding, pack] of Object.entries(PACKERS)) {
  test(`R16: ${encoding}, cut anywhere`, async () => {
    const packed = await pack(Buffer.from(TEXT));
    const bytes = Array.from(packed, (_, at) => packed.subarray(at, at + 1));
    assert.equal(await decode(encoding.toUpperCase(), bytes), TEXT);
    await fc.assert(
      fc.asyncProperty(fc.array(fc.nat(packed.length), { maxLength: 8 }), async (cuts) => {
        const at = [0, ...cuts.sort((a, b) => a - b), packed.length];
        const chunks = at.slice(1).map((end, index) => packed.subarray(at[index], end));
        assert.equal(await decode(encoding, chunks), TEXT);
      }),
      { numRuns: 40 },
    );
  });

  test(`S10: a bomb of ${encoding} fails, by its ratio and by its size`, async () => {
    const bomb = await pack(Buffer.alloc(64 * 1024 * 1024));
    const before = process.memoryUsage().rss;
    const failed = "failed: the compressed answer grows too large";
    assert.equal(await decode(encoding, [bomb]), failed);
    assert.ok(process.memoryUsage().rss - before < 60 * 1024 * 1024);
    const plain = await pack(Buffer.from(TEXT));
    assert.equal(await decode(encoding, [plain], 100), failed);
  });

  test(`what is cut off or no ${encoding} fails`, async () => {
    const packed = await pack(Buffer.from(TEXT));
    const failed = "failed: the answer is not compressed as its header says";
    assert.equal(await decode(encoding, [Buffer.from("plain text, not packed")]), failed);
    assert.match(await decode(encoding, [packed.subarray(0, 20)]), /^(failed|data|$)/);
  });
}

test("a flushed event passes before the stream is over", async () => {
  const packer = zlib.createGzip();
  const { promise, resolve } = Promise.withResolvers<string>();
  const decoder = createDecoder("gzip", 1e6, {
    onData: (chunk) => resolve(chunk.toString()),
    onEnd: () => resolve("ended"),
    onError: (error) => resolve(error.message),
  });
  packer.on("data", (chunk: Buffer) => decoder?.push(chunk));
  packer.write("data: 1\n\n");
  packer.flush();
  assert.equal(await promise, "data: 1\n\n");
  packer.destroy();
  decoder?.stop();
});

test("what is plain, and what is not known", () => {
  for (const encoding of [undefined, "", "identity"]) assert.equal(isPlain(encoding), true);
  for (const encoding of ["gzip, gzip", "aes128gcm", ["gzip"], "compress"]) {
    assert.equal(isPlain(encoding), false);
    const fail = () => assert.fail("told of an encoding that is not known");
    const nothing = { onData: fail, onEnd: fail, onError: fail };
    assert.equal(createDecoder(encoding, 1, nothing), null);
  }
});
