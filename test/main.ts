/**
 * Runs the tests: `npm test`. Those that drive a browser come last, one file after the
 * other: trials make network links as root, and Chromium drops what it reads whenever this
 * machine's network changes.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";

const PHASES = [
  ["--test-concurrency=2", "test/**/!(*.browser).test.ts"],
  ["--test-concurrency=1", "test/**/*.browser.test.ts"],
] as const;
const OPTIONS = [
  "--test",
  "--test-timeout=600000",
  "--test-global-setup=test/support/global-setup.ts",
];

/** Thousands of processes load the same modules: compiled once, each starts a third sooner. */
const NODE_COMPILE_CACHE = join(import.meta.dirname, "../node_modules/.cache/autocode-compiled");

for (const [concurrency, files] of PHASES) {
  const options = [...OPTIONS, concurrency, ...process.argv.slice(2), files];
  const child = spawn(process.execPath, options, {
    stdio: "inherit",
    env: { NODE_COMPILE_CACHE, ...process.env },
  });
  const [exit] = (await once(child, "exit")) as [number | null];
  if (exit !== 0) process.exitCode = exit ?? 1;
}
