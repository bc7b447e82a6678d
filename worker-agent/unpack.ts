/**
 * Unpacks a tar of hidden tests. Only files and folders are made, only below `dir`, and never
 * over something that exists: a link, an absolute path or a `..` refuses the whole archive.
 */
import { createReadStream, createWriteStream } from "node:fs";
import { chmod, mkdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { pipeline } from "node:stream/promises";
import { extract } from "tar-stream";

const ENTRIES_MAX = 20_000;
const BYTES_MAX = 512 * 1_048_576;

export class UnsafeArchive extends Error {
  override readonly name = "UnsafeArchive";
}

/** @throws UnsafeArchive naming the entry; what was unpacked before it stays. */
export async function unpack(archive: string, dir: string): Promise<void> {
  await mkdir(dir, { recursive: true, mode: 0o700 });
  const entries = extract();
  const reading = pipeline(createReadStream(archive), entries);
  // Its fault is the one that ends the loop below; this only keeps it from being unhandled.
  reading.catch(() => {});
  let entryCount = 0;
  let byteCount = 0;
  for await (const entry of entries) {
    const { name, type, mode = 0o644, size = 0 } = entry.header;
    entryCount += 1;
    byteCount += size;
    if (entryCount > ENTRIES_MAX || byteCount > BYTES_MAX) {
      throw new UnsafeArchive(`the hidden tests are too large: at ${name}`);
    }
    const path = join(dir, ...safeParts(name));
    if (type === "directory") {
      await mkdir(path, { recursive: true });
      entry.resume();
    } else if (type === "file" || type === "contiguous-file") {
      await mkdir(dirname(path), { recursive: true });
      await pipeline(entry, createWriteStream(path, { flags: "wx" }));
      await chmod(path, (mode & 0o111) === 0 ? 0o644 : 0o755);
    } else {
      throw new UnsafeArchive(`the hidden tests hold ${name}, which is a ${type}`);
    }
  }
  await reading;
}

/** The path's parts. @throws UnsafeArchive unless it stays where it is unpacked. */
function safeParts(name: string): string[] {
  const parts = name.split("/").filter((part) => part !== "" && part !== ".");
  const leaves = name.startsWith("/") || parts.includes("..");
  if (leaves || name.includes("\0") || name.includes("\\")) {
    throw new UnsafeArchive(
      `the hidden tests hold ${JSON.stringify(name)}, which leaves its folder`,
    );
  }
  return parts;
}
