/**
 * Runs the tests: `npm test`. Those that drive a browser come last, by themselves: trials of the
 * others make network links as root, and Chromium drops what it reads whenever this machine's
 * network changes.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";

const PHASES = ["test/**/!(*.browser).test.ts", "test/**/*.browser.test.ts"];
const OPTIONS = [
  "--test",
  "--test-concurrency=2",
  "--test-timeout=600000",
  "--test-global-setup=test/support/global-setup.ts",
];

/** Thousands of processes load the same modules: compiled once, each starts a third sooner. */
const NODE_COMPILE_CACHE = join(import.meta.dirname, "../node_modules/.cache/autocode-compiled");

for (const files of PHASES) {
  const child = spawn(process.execPath, [...OPTIONS, ...process.argv.slice(2), files], {
    stdio: "inherit",
    env: { NODE_COMPILE_CACHE, ...process.env },
  });
  const [exit] = (await once(child, "exit")) as [number | null];
  if (exit !== 0) process.exitCode = exit ?? 1;
}
