/** The files that the laws are about: what git tracks here, or would. */
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join, posix } from "node:path";
import { blankOut } from "./blank-out.ts";

const ROOT = join(import.meta.dirname, "../..");

export interface SourceFile {
  /** From the repository's root, with slashes. */
  readonly path: string;
  readonly text: string;
  /** The text with comments, strings and patterns blanked out; of the same length and lines. */
  readonly code: string;
}

export interface Import {
  readonly specifier: string;
  /** The imported file's path, or null for a package. */
  readonly target: string | null;
  /** Whether types alone are imported: nothing of it is there at run time. */
  readonly isTypeOnly: boolean;
}

/** Everything git tracks or would track, but what others wrote and what a test recorded. */
export function listFiles(): string[] {
  const args = ["ls-files", "--cached", "--others", "--exclude-standard", "-z"];
  const listed = execFileSync("git", args, { cwd: ROOT, encoding: "utf8" });
  return listed
    .split("\0")
    .filter((path) => path !== "" && existsSync(join(ROOT, path)))
    .sort();
}

export function readText(path: string): string {
  return readFileSync(join(ROOT, path), "utf8");
}

/** Our own code: not the examples' repositories, which are material for agents. */
export function readSources(paths: readonly string[]): SourceFile[] {
  return paths
    .filter((path) => /\.(ts|js|mjs)$/.test(path) && !path.startsWith("examples/tasks/"))
    .map((path) => {
      const text = readText(path);
      return { path, text, code: blankOut(text) };
    });
}

/** What a file imports, statically or not. */
export function importsOf({ path, text }: Pick<SourceFile, "path" | "text">): Import[] {
  const statement =
    /^(import|export)( type)?\b([^;"'`]*?)\bfrom "([^"]+)"|^import "([^"]+)"|\bimport\("([^"]+)"\)/gm;
  return [...text.matchAll(statement)].map((match) => {
    const [, , typeWord, names = "", named, bare, dynamic] = match;
    const specifier = named ?? bare ?? dynamic ?? "";
    const target = specifier.startsWith(".")
      ? posix.normalize(posix.join(posix.dirname(path), specifier))
      : null;
    const listed = /\{([^}]*)\}/.exec(names)?.[1] ?? "";
    const inner = listed.split(",").map((name) => name.trim());
    const areTypes = listed !== "" && inner.every((name) => name === "" || /^type /.test(name));
    return { specifier, target, isTypeOnly: typeWord !== undefined || areTypes };
  });
}
