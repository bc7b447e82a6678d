/** Goal: what is kept of a body is a gzip that gives it back, of whatever length. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import test from "node:test";
import { gunzipSync } from "node:zlib";
import { storedGzip, toGzip } from "../../../proxy/gateway/gzip.ts";

test("small bodies are stored, large ones are compressed, all come back", async () => {
  for (const length of [0, 1, 8_192, 8_193, 70_000]) {
    const bytes = randomBytes(length);
    assert.deepEqual(gunzipSync(await toGzip(bytes)), bytes, `${length} bytes`);
  }
  assert.equal((await toGzip(Buffer.alloc(8_192))).length, 8_192 + 23);
  assert.ok((await toGzip(Buffer.alloc(100_000))).length < 1_000);
});

test("a stored block is no longer than its length field", () => {
  const bytes = randomBytes(0xffff);
  assert.deepEqual(gunzipSync(storedGzip(bytes)), bytes);
  assert.throws(() => storedGzip(randomBytes(0x10000)), RangeError);
});
