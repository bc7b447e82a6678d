/**
 * The host program's entry: `node worker-agent/host/main.ts`. Joins the orchestrator's fleet and
 * runs a worker-agent for each allocation that it is given.
 *
 * SIGTERM or SIGINT: takes nothing new, ends what it has (bounded by AUTOCODE_DRAIN_MS), leaves. A
 * second one ends everything at once. Exit status: 0 when it left, 1 when it could not join.
 */
import { randomUUID } from "node:crypto";
import { join } from "node:path";
import type { Allocations } from "../allocations.ts";
import { messageOf } from "../faults.ts";
import { readHostConfig } from "./config.ts";
import { runHost } from "./host.ts";
import { wireHost } from "./wiring.ts";

const WORKER_AGENT = join(import.meta.dirname, "../main.ts");

const leaving = new AbortController();
let allocations: Allocations | null = null;
for (const signal of ["SIGTERM", "SIGINT"] as const) {
  process.on(signal, () => {
    if (leaving.signal.aborted) void endNow();
    leaving.abort();
  });
}
process.exitCode = await main();
process.exit();

async function main(): Promise<number> {
  try {
    const config = readHostConfig();
    const deps = await wireHost(config, {
      command: [process.execPath, WORKER_AGENT],
      leaving: leaving.signal,
      log,
      newRunId: randomUUID,
      onOpened: (opened) => {
        allocations = opened;
      },
    });
    await runHost(deps, config, leaving.signal);
    return 0;
  } catch (error) {
    log("host failed", { error: messageOf(error) });
    return 1;
  }
}

async function endNow(): Promise<void> {
  await allocations?.endAll();
  process.exit(1);
}

/** One line of JSON on standard error. */
function log(message: string, fields: Record<string, unknown>): void {
  const told = Object.entries(fields).map(([key, value]) => [
    key,
    value instanceof Error ? messageOf(value) : value,
  ]);
  const at = new Date(Date.now()).toISOString();
  process.stderr.write(`${JSON.stringify({ at, msg: message, ...Object.fromEntries(told) })}\n`);
}
