/**
 * A host program whose workers do what a test says (local-worker.ts); everything else of it is the
 * real one's. `node fleet-host.ts <folder for its workers' notes>`.
 */
import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { readHostConfig } from "../../worker-agent/host/config.ts";
import { runHost } from "../../worker-agent/host/host.ts";
import { wireHost } from "../../worker-agent/host/wiring.ts";

const [notes = ""] = process.argv.slice(2);
const leaving = new AbortController();
process.on("SIGTERM", () => leaving.abort());
const config = readHostConfig();
const deps = await wireHost(config, {
  command: [process.execPath, join(import.meta.dirname, "local-worker.ts"), notes],
  leaving: leaving.signal,
  newRunId: randomUUID,
  log: (message, fields) =>
    process.stderr.write(`${JSON.stringify({ msg: message, ...fields })}\n`),
});
await runHost(deps, config, leaving.signal);
process.exit();
