/**
 * Puts a checkpoint back into a clean checkout of its base commit.
 *
 * Invariant: all of it is here, and is what its hashes say, before the first file is written; and
 * nothing is written through a symbolic link or outside of the work tree, whoever made it.
 */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import {
  lstat,
  mkdir,
  readdir,
  readFile,
  rm,
  rmdir,
  symlink,
  unlink,
  writeFile,
} from "node:fs/promises";
import { dirname, join } from "node:path";
import { pipeline } from "node:stream/promises";
import { createGunzip } from "node:zlib";
import { extract } from "tar-stream";
import { Value } from "typebox/value";
import { Manifest, type WorkEntry } from "../orchestrator/contract/checkpoints.ts";
import type { AgentSpec } from "../orchestrator/contract/worker.ts";
import { staysInside } from "./changes.ts";
import { Fenced, messageOf, OrchestratorAway, WorkspaceFault } from "./faults.ts";
import type { Job } from "./job.ts";

const MANIFEST_BYTES_MAX = 64 * 1_048_576;

/** A checkpoint that was fetched and checked. */
export interface Fetched {
  readonly manifest: Manifest;
  contentOf(sha256: string): Promise<Buffer>;
}

/**
 * The checkpoint that the specification names; null when it names none.
 *
 * @throws WorkspaceFault when it cannot be had, or is not what its hashes say.
 */
export async function fetchCheckpoint({
  spec,
  rooms,
  client,
}: Pick<Job<AgentSpec>, "spec" | "rooms" | "client">): Promise<Fetched | null> {
  const wanted = spec.resume?.checkpoint;
  if (wanted === undefined) return null;
  const archive = join(rooms.private, "checkpoint.tar.gz");
  try {
    if (!(await client.checkpoint(archive)))
      throw new WorkspaceFault("there is no such checkpoint");
    const fetched = await unpackCheckpoint(archive, {
      dir: join(rooms.private, "checkpoint"),
      manifestSha256: wanted.manifest_sha256,
    });
    if (fetched.manifest.base_commit !== spec.base_commit) {
      throw new WorkspaceFault(`it is of another base commit, ${fetched.manifest.base_commit}`);
    }
    return fetched;
  } catch (error) {
    if (error instanceof Fenced || error instanceof OrchestratorAway) throw error;
    throw new WorkspaceFault(`${wanted.id} was not restored: ${messageOf(error)}`);
  }
}

/** Unpacks and checks an archive of the orchestrator's. @throws whatever it is no archive by. */
export async function unpackCheckpoint(
  archive: string,
  { dir, manifestSha256 }: { dir: string; manifestSha256: string },
): Promise<Fetched> {
  await rm(dir, { recursive: true, force: true });
  await mkdir(dir, { mode: 0o700 });
  const entries = extract();
  const reading = pipeline(createReadStream(archive), createGunzip(), entries);
  // Its fault is the one that ends the loop below; this only keeps it from being unhandled.
  reading.catch(() => {});
  let manifest: Manifest | null = null;
  const lacking = new Map<string, number>();
  for await (const entry of entries) {
    const { name, size = 0 } = entry.header;
    const sizeMax = manifest === null ? MANIFEST_BYTES_MAX : (lacking.get(name) ?? -1);
    if (size > sizeMax) throw new WorkspaceFault(`it holds ${JSON.stringify(name)}`);
    const content = Buffer.concat(await Array.fromAsync(entry as AsyncIterable<Buffer>));
    if (manifest === null) {
      manifest = readManifest(content, manifestSha256);
      for (const named of contentsOf(manifest)) lacking.set(named.sha256, named.byte_count);
      continue;
    }
    if (sha256Of(content) !== name) throw new WorkspaceFault(`its content ${name} is damaged`);
    await writeFile(join(dir, name), content, { mode: 0o600 });
    lacking.delete(name);
  }
  await reading;
  if (manifest === null || lacking.size > 0) throw new WorkspaceFault("it is not all there");
  return { manifest, contentOf: (sha256) => readFile(join(dir, sha256)) };
}

/**
 * Makes a clean checkout what the manifest says.
 *
 * @throws WorkspaceFault for a path that leads out of it.
 */
export async function restoreTree(workspace: string, { manifest, contentOf }: Fetched) {
  const { work } = manifest;
  for (const entry of work) {
    if (entry.type === "deleted" && (await isReached(entry.path))) await removeEntry(entry.path);
  }
  for (const entry of work) if (entry.type !== "deleted") await write(entry);

  async function write(entry: Exclude<WorkEntry, { type: "deleted" }>): Promise<void> {
    const { path } = entry;
    const content = await contentOf(entry.sha256);
    const at = join(workspace, path);
    await makeFolders(dirname(path));
    await removeEntry(path);
    if (entry.type === "link") {
      const target = content.toString("utf8");
      if (!staysInside(path, target)) throw new WorkspaceFault(`${path} leaves the work tree`);
      await symlink(target, at);
    } else {
      const mode = entry.is_executable ? 0o755 : 0o644;
      await writeFile(at, content, { mode, flag: "wx" });
    }
  }

  /** Each part a real folder: one that the base has as a link or a file is in the way. */
  async function makeFolders(path: string): Promise<void> {
    if (path === ".") return;
    await makeFolders(dirname(path));
    const found = await lstat(join(workspace, path)).catch(() => null);
    if (found === null) await mkdir(join(workspace, path));
    else if (!found.isDirectory()) throw new WorkspaceFault(`${path} is no folder here`);
  }

  async function isReached(path: string): Promise<boolean> {
    for (let folder = dirname(path); folder !== "."; folder = dirname(folder)) {
      const found = await lstat(join(workspace, folder)).catch(() => null);
      if (found?.isDirectory() !== true) return false;
    }
    return true;
  }

  /** A file, a link, or the folders that deleted files left empty. */
  async function removeEntry(path: string): Promise<void> {
    const at = join(workspace, path);
    const found = await lstat(at).catch(() => null);
    if (found === null) return;
    if (!found.isDirectory()) return unlink(at);
    await removeEmpty(path);
  }

  async function removeEmpty(path: string): Promise<void> {
    const at = join(workspace, path);
    for (const entry of await readdir(at, { withFileTypes: true })) {
      if (!entry.isDirectory()) throw new WorkspaceFault(`${path} is a folder here`);
      await removeEmpty(join(path, entry.name));
    }
    await rmdir(at);
  }
}

function readManifest(content: Buffer, sha256: string): Manifest {
  if (sha256Of(content) !== sha256) throw new WorkspaceFault("its manifest is damaged");
  const manifest: unknown = JSON.parse(content.toString("utf8"));
  if (!Value.Check(Manifest, manifest)) throw new WorkspaceFault("its manifest is none of ours");
  return manifest;
}

function contentsOf({ work, session }: Manifest): { sha256: string; byte_count: number }[] {
  return [...work.filter((entry) => entry.type !== "deleted"), ...(session?.files ?? [])];
}

function sha256Of(content: Buffer): string {
  return createHash("sha256").update(content).digest("hex");
}
