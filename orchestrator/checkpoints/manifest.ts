/** What a manifest says, and whether it can be put back. Pure. */
import { createHash } from "node:crypto";
import type { Manifest, WorkEntry } from "../contract/checkpoints.ts";

export interface Named {
  sha256: string;
  byteCount: number;
}

/** Its one JSON text: keys and paths in order, no white space. */
export function canonicalText({ base_commit, session, version, work }: Manifest): string {
  return JSON.stringify({
    base_commit,
    session:
      session === null
        ? null
        : {
            files: session.files.toSorted(byPath).map(({ byte_count, path, sha256 }) => {
              return { byte_count, path, sha256 };
            }),
            folders: session.folders,
          },
    version,
    work: work.toSorted(byPath).map(canonicalEntry),
  });
}

export function manifestHash(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}

/** Every content that it names, as often as it does. */
export function contentsOf({ work, session }: Manifest): Named[] {
  const files = [...work.filter((entry) => entry.type !== "deleted"), ...(session?.files ?? [])];
  return files.map(({ sha256, byte_count }) => ({ sha256, byteCount: byte_count }));
}

/** Each content once. */
export function distinct(contents: readonly Named[]): Named[] {
  return [...new Map(contents.map((content) => [content.sha256, content])).values()];
}

export function totalBytes(contents: readonly Named[]): number {
  return contents.reduce((sum, { byteCount }) => sum + byteCount, 0);
}

/** Why it cannot be put back into a folder; null when it can. The paths' form is the schema's. */
export function faultOf({ work, session }: Manifest): string | null {
  return faultOfPaths("work", work) ?? faultOfPaths("session.files", session?.files ?? []);
}

/** Each path once, and none below one that is a file. */
function faultOfPaths(
  field: string,
  entries: readonly { path: string; type?: WorkEntry["type"] }[],
): string | null {
  const there = new Set<string>();
  const paths = new Set<string>();
  for (const { path, type } of entries) {
    if (paths.has(path)) return `${field}: "${path}" stands there twice`;
    paths.add(path);
    if (type !== "deleted") there.add(path);
  }
  for (const path of there) {
    for (let at = path.indexOf("/"); at !== -1; at = path.indexOf("/", at + 1)) {
      const folder = path.slice(0, at);
      if (there.has(folder)) return `${field}: "${path}" lies below a file`;
    }
  }
  return null;
}

function canonicalEntry(entry: WorkEntry) {
  const { path, type } = entry;
  if (entry.type === "deleted") return { path, type };
  const { byte_count, sha256 } = entry;
  if (entry.type === "link") return { byte_count, path, sha256, type };
  return { byte_count, is_executable: entry.is_executable, path, sha256, type };
}

/** By code unit: the same everywhere, whatever the language of the machine. */
function byPath(a: { path: string }, b: { path: string }): number {
  return a.path < b.path ? -1 : a.path > b.path ? 1 : 0;
}
