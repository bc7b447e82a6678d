/**
 * The manifest of a model's folder: what was pulled, from where, with which hashes, and who
 * accepted its licence. Written last, whole or not at all: a folder without one is not a model.
 */
import { open, readFile, rename } from "node:fs/promises";
import { dirname, join } from "node:path";
import { type Static, Type } from "typebox";
import { Compile } from "typebox/compile";
import { Problem } from "../problem.ts";

export const MANIFEST = "autocode-manifest.json";

const MaybeText = Type.Union([Type.String(), Type.Null()]);

export type Manifest = Static<typeof Manifest>;
export const Manifest = Type.Object({
  version: Type.Literal(1),
  model: Type.String(),
  quantisation: Type.String(),
  repository: Type.String(),
  revision: Type.String({ pattern: "^[0-9A-Za-z._-]{1,100}$" }),
  /** `hub`: each file agreed with the hub's hash; `folder`: the hashes are of what was there. */
  source: Type.Union([Type.Literal("hub"), Type.Literal("folder")]),
  files: Type.Array(
    Type.Object({
      path: Type.String({ pattern: "^[^/\\\\\\u0000]+$" }),
      size: Type.Integer({ minimum: 0 }),
      sha256: Type.String({ pattern: "^[0-9a-f]{64}$" }),
    }),
    { minItems: 1 },
  ),
  licence: Type.Object({
    id: Type.String(),
    url: Type.String(),
    /** Null where it needs nobody's word. */
    accepted_by: MaybeText,
    accepted_at: MaybeText,
  }),
  /** What a person should know, each a sentence. */
  warnings: Type.Array(Type.String()),
  pulled_at: Type.String(),
});
const checkManifest = Compile(Manifest);

/**
 * Null where the folder has none, or none that is whole.
 *
 * @throws Problem `conflict` when it cannot be read or is not as it was written.
 */
export async function readManifest(dir: string): Promise<Manifest | null> {
  const path = join(dir, MANIFEST);
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw cause;
  }
  try {
    const value: unknown = JSON.parse(text);
    if (checkManifest.Check(value)) return value;
  } catch {
    // Said below, as any other damage.
  }
  throw new Problem("conflict", `${path} is damaged: delete it, and pull the model again`);
}

/** Durable when it returns: after a crash there is the old file, or this one. */
export async function writeDurably(path: string, value: object): Promise<void> {
  const draft = `${path}.partial`;
  const handle = await open(draft, "w", 0o644);
  try {
    await handle.writeFile(`${JSON.stringify(value, null, 2)}\n`);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await renameDurably(draft, path);
}

/** The name, too, is on the disk when it returns. */
export async function renameDurably(from: string, to: string): Promise<void> {
  await rename(from, to);
  const folder = await open(dirname(to), "r");
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}
