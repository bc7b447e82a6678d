/**
 * Removes one guard at a time, in a copy of the tree, and runs the tests that must then fail. A
 * guard whose loss no test notices survives, and fails the run.
 *
 *     npm run mutation [-- part of a guard's name …]
 *
 * Prints a table in Markdown: `README.md` beside this file keeps the last one.
 */
import { execFileSync, spawn } from "node:child_process";
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { startTestServer, URL_VARIABLE } from "../support/server.ts";
import { MUTANTS, type Mutant } from "./mutants.ts";
import { patched } from "./patch.ts";

const ROOT = join(import.meta.dirname, "../..");
/** For each file; what takes longer hangs. */
const FILE_MS = 120_000;

interface Run {
  hasPassed: boolean;
  failed: string[];
}

const wanted = process.argv.slice(2);
const chosen = MUTANTS.filter(
  ({ guard }) => wanted.length === 0 || wanted.some((part) => guard.includes(part)),
);
const tree = mkdtempSync(join(tmpdir(), "autocode-mutation-"));
try {
  process.exitCode = await main();
} finally {
  rmSync(tree, { recursive: true, force: true });
}

async function main(): Promise<number> {
  if (chosen.length === 0) {
    process.stderr.write(`no guard is called ${wanted.join(" or ")}\n`);
    return 2;
  }
  copyTree();
  await using server = await startTestServer();
  const files = [...new Set(chosen.flatMap(({ tests }) => tests))];
  process.stderr.write(`${chosen.length} guards; first, nothing removed: ${files.length} files\n`);
  const whole = await run(files, server.url);
  if (!whole.hasPassed) {
    process.stderr.write(`they fail with every guard in place: ${whole.failed.join("; ")}\n`);
    return 1;
  }
  process.stdout.write("| guard removed | in | noticed by |\n|---|---|---|\n");
  let survivors = 0;
  for (const mutant of chosen) {
    const { hasPassed, failed } = await tryMutant(mutant, server.url);
    if (hasPassed) survivors += 1;
    const more = failed.length > 1 ? ` and ${failed.length - 1} more` : "";
    const noticed = hasPassed ? "**nobody: it survives**" : `${failed[0] ?? "a crash"}${more}`;
    process.stdout.write(`| ${mutant.guard} | \`${mutant.file}\` | ${noticed} |\n`);
  }
  process.stderr.write(`${chosen.length - survivors} of ${chosen.length} noticed\n`);
  return survivors === 0 ? 0 : 1;
}

function copyTree(): void {
  const listed = execFileSync("git", ["ls-files", "-co", "--exclude-standard", "-z"], {
    cwd: ROOT,
    encoding: "utf8",
    maxBuffer: 64 * 1024 * 1024,
  });
  for (const path of listed.split("\0").filter((one) => one !== "")) {
    mkdirSync(dirname(join(tree, path)), { recursive: true });
    try {
      cpSync(join(ROOT, path), join(tree, path));
    } catch (error) {
      // Deleted and not yet committed so.
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    }
  }
  symlinkSync(join(ROOT, "node_modules"), join(tree, "node_modules"));
}

async function tryMutant(mutant: Mutant, serverUrl: string): Promise<Run> {
  const path = join(tree, mutant.file);
  const original = readFileSync(path, "utf8");
  writeFileSync(path, patched(mutant, original));
  try {
    // An altered schema needs a server whose template is made from it.
    return await run(mutant.tests, mutant.file.endsWith(".sql") ? null : serverUrl);
  } finally {
    writeFileSync(path, original);
  }
}

async function run(files: readonly string[], serverUrl: string | null): Promise<Run> {
  const { [URL_VARIABLE]: _, ...inherited } = process.env;
  const child = spawn(
    process.execPath,
    ["--test", "--test-concurrency=1", "--test-reporter=tap", ...files],
    {
      cwd: tree,
      stdio: ["ignore", "pipe", "ignore"],
      env: { ...inherited, ...(serverUrl === null ? {} : { [URL_VARIABLE]: serverUrl }) },
    },
  );
  let output = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    output += text;
  });
  const ended = new Promise<number | null>((resolve) => child.once("close", resolve));
  const stop = new AbortController();
  const limitMs = FILE_MS * files.length;
  const late = sleep(limitMs, "late" as const, { signal: stop.signal }).catch(() => null);
  const status = await Promise.race([ended, late]);
  stop.abort();
  if (status === "late") {
    child.kill("SIGKILL");
    await ended;
    return { hasPassed: false, failed: [`nothing in ${limitMs / 1_000} s: they hang`] };
  }
  // The innermost first: TAP tells a subtest before the test it is part of.
  const failed = [...output.matchAll(/^\s*not ok \d+ - (.+)$/gm)].map(([, name = ""]) =>
    name.replace(/ # .*$/, ""),
  );
  return { hasPassed: status === 0, failed };
}
