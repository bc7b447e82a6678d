/** A worker-agent in a process of its own: `main.ts`, but with the fake agent of its argument. */
import { randomUUID } from "node:crypto";
import { readConfig } from "../../worker-agent/config.ts";
import { limitOurselves } from "../../worker-agent/limits.ts";
import { createStop } from "../../worker-agent/stop.ts";
import { runWorker } from "../../worker-agent/worker.ts";
import { fakeAgent } from "./worker-world.ts";

const stop = createStop();
process.on("SIGTERM", () => stop.request("signal"));
const config = readConfig();
limitOurselves(config.limits, config.runAs !== null);
const agent = fakeAgent(JSON.parse(process.argv[2] ?? "{}"));
const end = await runWorker(
  {
    clock: { now: () => Date.now() },
    findAgent: () => agent,
    install: async () => "/nowhere",
    newSessionId: randomUUID,
    log: () => {},
    graceMs: 1_000,
  },
  config,
  stop,
);
process.exit(end === "abandoned" ? 1 : 0);
