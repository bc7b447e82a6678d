/** What a backup's file is sealed with: nothing of it can be read, changed, moved or cut off. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { unwrap, wrap } from "../../../orchestrator/backup/envelope.ts";
import { seededRandom } from "../../../orchestrator/runtime/random.ts";

const random = seededRandom(1);
const SALT = new Uint8Array(16);
/** Two whole frames and a piece. */
const LONG = Buffer.from(random.bytes(2 * 1_048_576 + 77));

test("what was wrapped is unwrapped, sealed or not, whatever its length", async () => {
  for (const bytes of [Buffer.alloc(0), Buffer.from("short"), LONG, LONG.subarray(0, 1_048_576)]) {
    for (const passphrase of [null, "a pass phrase"]) {
      const sealing = passphrase === null ? null : { passphrase, salt: SALT };
      const file = await all(wrap(pieces(bytes), sealing));
      assert.deepEqual(await all(unwrap(pieces(file), passphrase)), bytes);
    }
  }
});

test("a sealed file tells nothing, and is refused when anything of it is not as it was", async () => {
  const bytes = Buffer.from("the hidden tests ".repeat(100_000));
  const file = await all(wrap(pieces(bytes), { passphrase: "right", salt: SALT }));
  assert.ok(!file.includes("hidden"));
  const head = file.indexOf("\n", file.indexOf("\n") + 1) + 1;
  await refused(file, null, /sealed with a passphrase: give --passphrase-file/);
  await refused(file, "wrong", /not the one that it was sealed with/);
  for (const at of [head + 5, head + 1_000_000, file.length - 1]) {
    const changed = Buffer.from(file);
    changed[at] = (changed[at] ?? 0) ^ 1;
    await refused(changed, "right", /damaged/);
  }
  const frame = 4 + 1_048_576 + 16;
  // Cut between two frames, within one, and within the head.
  for (const end of [head + frame, head + 100, file.length - 1, head - 5, 40]) {
    await refused(file.subarray(0, end), "right", /cut off|damaged/);
  }
  const [one, two] = [file.subarray(head, head + frame), file.subarray(head + frame)];
  await refused(Buffer.concat([file.subarray(0, head), two, one]), "right", /damaged/);
  await refused(Buffer.concat([file, Buffer.from("more")]), "right", /damaged|cut off/);
});

test("another file, another version and a needless passphrase are told apart", async () => {
  await refused(Buffer.from("PK\u0003\u0004"), null, /no backup of autocode/);
  await refused(Buffer.from("x".repeat(5_000)), null, /no backup of autocode/);
  await refused(Buffer.alloc(0), null, /no backup of autocode/);
  await refused(Buffer.from("autocode-backup/2 plain\nabc"), null, /format 2.*use a newer one/);
  const plain = await all(wrap(pieces(Buffer.from("a")), null));
  await refused(plain, "needless", /not sealed: leave the passphrase out/);
});

async function refused(file: Buffer, passphrase: string | null, message: RegExp): Promise<void> {
  await assert.rejects(all(unwrap(pieces(file), passphrase)), { name: "EnvelopeFault", message });
}

/** In pieces of all sizes, as a file or a socket gives them. */
async function* pieces(bytes: Buffer): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; ) {
    const size = 1 + random.below(100_000);
    yield bytes.subarray(at, at + size);
    at += size;
  }
}

async function all(bytes: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of bytes) chunks.push(chunk);
  return Buffer.concat(chunks);
}
