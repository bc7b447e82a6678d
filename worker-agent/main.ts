/**
 * The worker-agent's entry: `node worker-agent/main.ts`. Composes everything, and is the only file
 * here that reads the clock or draws a random number.
 *
 * Exit status: 0 when a report was delivered or the trial is another allocation's, else 1.
 */
import { randomUUID } from "node:crypto";
import { findAgent } from "./agents/registry.ts";
import { type Config, readConfig } from "./config.ts";
import { messageOf } from "./faults.ts";
import { installAgent } from "./install.ts";
import { limitOurselves } from "./limits.ts";
import { removeTree } from "./rooms.ts";
import { createStop } from "./stop.ts";
import { runWorker } from "./worker.ts";

const GRACE_MS = 1_500;
/** What it was at the start, and what has passed since: a clock that is set ends no agent. */
const clock = { now: () => Math.round(performance.timeOrigin + performance.now()) };

// A service's umask must not close what agents are to read; what they are not to has its own mode.
process.umask(0o022);
const stop = createStop();
for (const signal of ["SIGTERM", "SIGINT"] as const) {
  process.on(signal, () => stop.request("signal"));
}
process.exitCode = await main();
// Whatever still holds the event loop open, a hung socket say, has nothing left to do.
process.exit();

async function main(): Promise<number> {
  let config: Config | null = null;
  try {
    config = readConfig();
    const { agentsDir, installEnv } = config;
    const unlimited = limitOurselves(config.limits, config.runAs !== null);
    if (unlimited.length > 0) log("some limits cannot be set here", { unlimited });
    const end = await runWorker(
      {
        clock,
        findAgent,
        install: (agent, signal, onProgress) =>
          installAgent(agent, {
            agentsDir,
            env: installEnv,
            onProgress,
            signal,
          }),
        newSessionId: randomUUID,
        log,
        graceMs: GRACE_MS,
      },
      config,
      stop,
    );
    return end === "abandoned" ? 1 : 0;
  } catch (error) {
    log("worker-agent failed", { error: messageOf(error) });
    return 1;
  } finally {
    // The hidden tests and the agent's work: not for the allocation that comes after us.
    if (config?.removesAllocationDir) {
      await removeTree(config.allocationDir).catch((error: unknown) => {
        log("allocation folder left behind", { error: messageOf(error) });
      });
    }
  }
}

/** One line of JSON on standard error, where the scheduler keeps it. */
function log(message: string, fields: Record<string, unknown>): void {
  const at = new Date(Date.now()).toISOString();
  process.stderr.write(`${JSON.stringify({ at, msg: message, ...fields })}\n`);
}
