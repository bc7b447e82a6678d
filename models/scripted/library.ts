/** The scripts of a folder, read again when a file changes, and the choice among them. */
import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { type ModelRequest, ScriptedProblem } from "./dialect.ts";
import { parseScript, type Script, ScriptError } from "./script.ts";

export interface Library {
  /**
   * The script whose `match` is found in what the request's user said; else the one whose plan is;
   * else the one without a `match`. Scripts are asked in the order of their names.
   *
   * @throws ScriptedProblem 400 when none matches; it names the scripts that could not be read.
   */
  select(request: ModelRequest): Promise<Script>;
  /** One line for each script that cannot be played. @throws ScriptError: no such folder. */
  faults(): Promise<string[]>;
}

type Entry = { version: string; script: Script } | { version: string; fault: string };

/** A library of `scripts` that are already read. */
export function fixedLibrary(scripts: readonly Script[]): Library {
  return { select: async (request) => choose(scripts, [], request), faults: async () => [] };
}

/** A library of the `.yaml` files of `folder`. */
export function folderLibrary(folder: string): Library {
  let entries = new Map<string, Entry>();
  return {
    async select(request) {
      await refresh();
      const scripts = [...entries.values()].flatMap((entry) =>
        "script" in entry ? [entry.script] : [],
      );
      return choose(scripts, faultsOf(), request);
    },
    async faults() {
      await refresh();
      return faultsOf();
    },
  };

  function faultsOf(): string[] {
    return [...entries.values()].flatMap((entry) => ("fault" in entry ? [entry.fault] : []));
  }

  async function refresh(): Promise<void> {
    const names = await readdir(folder).catch((cause: unknown) => {
      throw new ScriptError(`${folder}: the folder of scripts cannot be read`, { cause });
    });
    const known = entries;
    const files = names.filter((name) => /\.ya?ml$/.test(name)).sort();
    const read = await Promise.all(files.map(async (name) => [name, await entry(name)] as const));
    entries = new Map(read);

    async function entry(name: string): Promise<Entry> {
      const path = join(folder, name);
      const { mtimeMs, size } = await stat(path);
      const version = `${mtimeMs}:${size}`;
      const before = known.get(name);
      if (before?.version === version) return before;
      try {
        const source = await readFile(path, "utf8");
        return { version, script: parseScript(name.replace(/\.ya?ml$/, ""), name, source) };
      } catch (error) {
        if (!(error instanceof ScriptError)) throw error;
        return { version, fault: error.message };
      }
    }
  }
}

function choose(
  scripts: readonly Script[],
  faults: readonly string[],
  { turns }: ModelRequest,
): Script {
  const said = turns
    .filter(({ role }) => role === "user")
    .map(({ text }) => text)
    .join("\n");
  const chosen =
    scripts.find(({ matches }) => matches?.(said) === true) ??
    // The editor of an architect is told the plan, and not what the plan is for.
    scripts.find(({ planText }) => said.includes(planText.trim())) ??
    scripts.find(({ matches }) => matches === null);
  if (chosen !== undefined) return chosen;
  const names = scripts.map(({ name }) => name).join(", ") || "none";
  const broken = faults.length === 0 ? "" : `; unreadable: ${faults.join("; ")}`;
  const message = `no script matches this request; scripts: ${names}${broken}`;
  throw new ScriptedProblem(400, "no_script_matches", message);
}
