/**
 * Runs the simulations with more seeds, or with the one that failed.
 *
 *     npm run sim -- --seeds 1000
 *     npm run sim -- --seed 17 [part of a file's name …]
 */
import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";

const { values, positionals } = parseArgs({
  options: { seed: { type: "string" }, seeds: { type: "string" } },
  allowPositionals: true,
});
for (const [name, text] of Object.entries(values)) {
  if (!/^[1-9]\d{0,8}$/.test(text ?? "")) {
    process.stderr.write(`--${name} must be a whole number from 1 on, not "${text}"\n`);
    process.exit(2);
  }
}
const dir = import.meta.dirname;
const files = readdirSync(dir)
  .filter((name) => name.endsWith(".test.ts"))
  .filter((name) => positionals.length === 0 || positionals.some((part) => name.includes(part)));
if (files.length === 0) {
  process.stderr.write(`no simulation is called ${positionals.join(" or ")}\n`);
  process.exit(2);
}
const setup = join(dir, "../support/global-setup.ts");
const { status } = spawnSync(
  process.execPath,
  ["--test", "--test-concurrency=1", `--test-global-setup=${setup}`].concat(
    files.map((name) => join(dir, name)),
  ),
  {
    stdio: "inherit",
    env: {
      ...process.env,
      ...(values.seed === undefined ? {} : { SEED: values.seed }),
      ...(values.seeds === undefined ? {} : { SEEDS: values.seeds }),
    },
  },
);
process.exitCode = status ?? 1;
