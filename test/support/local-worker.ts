/**
 * A worker for tests of the local scheduler: does what its enrolment token says, and writes down
 * each start. Run as `node local-worker.ts <folder for its notes>`.
 */
import { spawn } from "node:child_process";
import { appendFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";

const { env } = process;
const notes = process.argv[2] ?? "";
const allocationId = basename(env["AUTOCODE_ALLOCATION_DIR"] ?? "");
const behaviour = (env["AUTOCODE_ENROLMENT_TOKEN"] ?? "").split(":")[0];

if (behaviour === "deaf") process.on("SIGTERM", () => {});
if (behaviour === "leave") {
  // A session of its own, as CLIs give to what they run in the background.
  const left = spawn("sleep", ["300"], {
    detached: true,
    stdio: "ignore",
    env: { PATH: env["PATH"], AUTOCODE_TRIAL: allocationId },
  });
  left.unref();
  writeFileSync(join(notes, `${allocationId}.left`), String(left.pid));
}
const variables = { run_as: env["AUTOCODE_RUN_AS"] ?? null, names: Object.keys(env) };
writeFileSync(join(notes, `${allocationId}.env`), JSON.stringify(variables));
appendFileSync(join(notes, `${allocationId}.starts`), `${process.pid}\n`);
if (behaviour === "fail") process.exitCode = 3;
if (behaviour === "wait" || behaviour === "deaf") setInterval(() => {}, 1_000);
