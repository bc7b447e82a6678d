/**
 * The templates that there are: ours, and those of folders that a person names. A folder with a
 * `template.yaml` is a template; `*.njk` beside it are its files; `parts/` is for all to include.
 */
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { type Layer, parseManifest, TemplateFault } from "./variables.ts";

export interface Template {
  name: string;
  extends: string | null;
  summary: string;
  layer: Layer;
  /** A rendered file's name, and its source's. */
  files: ReadonlyMap<string, string>;
}

export interface Catalog {
  templates: ReadonlyMap<string, Template>;
  /** By path, as templates name each other: "worker/user-data.njk". */
  sources: ReadonlyMap<string, string>;
}

const OWN_DIR = import.meta.dirname;
const MANIFEST = "template.yaml";
const SOURCE = /\.njk$/;

/**
 * Reads our templates and those of `folders`.
 *
 * @throws TemplateFault: a folder has no template, one of ours is to be replaced, or a manifest is
 * wrong.
 */
export async function readCatalog(folders: readonly string[]): Promise<Catalog> {
  const templates = new Map<string, Template>();
  const sources = new Map<string, string>();
  for (const root of [OWN_DIR, ...folders]) {
    let found = 0;
    for (const name of await foldersOf(root)) {
      const files = await readSources(join(root, name));
      for (const [file, text] of files) claim(`${name}/${file}`, text, root);
      const manifest = await readText(join(root, name, MANIFEST));
      if (manifest === null) continue;
      const { layer, ...heading } = parseManifest(manifest, `${name}/${MANIFEST}`);
      const names = [...files.keys()].map(
        (file) => [file.replace(SOURCE, ""), `${name}/${file}`] as const,
      );
      templates.set(name, { name, ...heading, layer, files: new Map(names) });
      found += 1;
    }
    if (found === 0) {
      throw new TemplateFault(
        `${root}: no folder there has a ${MANIFEST}; name their parent folder`,
      );
    }
  }
  return { templates, sources };

  function claim(path: string, text: string, root: string): void {
    if (sources.has(path)) {
      throw new TemplateFault(`${join(root, path)}: there is a ${path} already; take another name`);
    }
    sources.set(path, text);
  }
}

async function foldersOf(root: string): Promise<string[]> {
  try {
    const entries = await readdir(root, { withFileTypes: true });
    return entries
      .filter((entry) => entry.isDirectory())
      .map(({ name }) => name)
      .sort();
  } catch (cause) {
    const fault = new TemplateFault(
      `${root}: cannot be read (${(cause as { code?: string }).code})`,
    );
    fault.cause = cause;
    throw fault;
  }
}

async function readSources(folder: string): Promise<Map<string, string>> {
  const names = (await readdir(folder)).filter((name) => SOURCE.test(name)).sort();
  const texts = await Promise.all(names.map((name) => readFile(join(folder, name), "utf8")));
  return new Map(names.map((name, index) => [name, texts[index] ?? ""]));
}

async function readText(path: string): Promise<string | null> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw error;
  }
}
