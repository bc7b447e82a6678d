/** Goal: an artefact arrives whole and in order, or ends at its limit with a word of it. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { createArtefact } from "../../worker-agent/artefacts.ts";

function store() {
  let stored = Buffer.alloc(0);
  return {
    text: () => stored.toString(),
    put: async (_name: string, offset: number, bytes: Uint8Array) => {
      assert.equal(offset, stored.byteLength);
      stored = Buffer.concat([stored, bytes]);
    },
  };
}

test("appended pieces arrive in order, and flush waits for them", async () => {
  const { text, put } = store();
  const artefact = createArtefact(put, { name: "log", maxBytes: 3_000_000 });
  const large = "x".repeat(2_500_000);
  artefact.append("one ");
  artefact.append(Buffer.from("two "));
  artefact.append(large);
  await artefact.flush();
  artefact.append(" three");
  await artefact.flush();
  assert.equal(text(), `one two ${large} three`);
});

test("at its limit it ends with a note, once", async () => {
  const { text, put } = store();
  const artefact = createArtefact(put, { name: "log", maxBytes: 10, fullNote: "[cut]" });
  for (const piece of ["12345", "678", "90abc", "d"]) artefact.append(piece);
  await artefact.flush();
  assert.deepEqual([text(), artefact.isFull()], ["12345678[cut]", true]);
});

test("a failed upload is thrown by flush", async () => {
  const put = async () => {
    throw new Error("too large");
  };
  const artefact = createArtefact(put, { name: "log", maxBytes: 10 });
  artefact.append("x");
  await assert.rejects(artefact.flush(), /too large/);
});
