/** Goal: what is kept is what came, in its order, up to the bound; the rest is counted. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import test from "node:test";
import { createByteRecord } from "../../../proxy/gateway/byte-record.ts";

test("chunks of any size, as they came", () => {
  const record = createByteRecord(1_000_000);
  assert.deepEqual([record.bytes().length, record.beyondBytes()], [0, 0]);
  const chunks = [0, 1, 190, 2_000, 5, 9_000, 1, 70_000].map((length) => randomBytes(length));
  for (const chunk of chunks) record.add(chunk);
  assert.deepEqual(record.bytes(), Buffer.concat(chunks));
  assert.equal(record.beyondBytes(), 0);
});

test("past the bound, what fits of a chunk is kept, the rest of it and all after it counted", () => {
  const record = createByteRecord(10);
  for (const text of ["12345", "6789012", "x", "yz"]) record.add(Buffer.from(text));
  assert.deepEqual([record.bytes().toString(), record.beyondBytes()], ["1234567890", 5]);
});
