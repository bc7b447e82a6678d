/**
 * A worker for tests of schedulers: does what its enrolment token says, and writes down
 * each start. Run as `node local-worker.ts <folder for its notes>`.
 */
import { spawn } from "node:child_process";
import { appendFileSync, readFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";

const { env } = process;
const notes = process.argv[2] ?? "";
// In a real Nomad the token is in a file and the allocation in the meta.
const allocationId =
  env["NOMAD_META_allocation_id"] ?? basename(env["AUTOCODE_ALLOCATION_DIR"] ?? "");
const tokenFile = env["AUTOCODE_ENROLMENT_TOKEN_FILE"];
const token =
  tokenFile === undefined ? env["AUTOCODE_ENROLMENT_TOKEN"] : readFileSync(tokenFile, "utf8");
const behaviour = (token ?? "").split(":")[0];

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
process.stdout.write("out:ready\n");
process.stderr.write("err:ready\n");
if (behaviour === "fail") process.exitCode = 3;
if (behaviour === "wait" || behaviour === "deaf") setInterval(() => {}, 1_000);
