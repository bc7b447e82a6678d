/**
 * The host program's entry: `node worker-agent/host/main.ts`. Joins the orchestrator's fleet and
 * runs a worker-agent for each allocation that it is given.
 *
 * SIGTERM or SIGINT: takes nothing new, ends what it has (bounded by AUTOCODE_DRAIN_MS), leaves. A
 * second one ends everything at once. Exit status: 0 when it left, 1 when it could not join.
 */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { findAgent } from "../agents/registry.ts";
import { type Allocations, openAllocations } from "../allocations.ts";
import { messageOf } from "../faults.ts";
import { installAgent, verifyInstalled } from "../install.ts";
import { sweepMarker } from "../process.ts";
import { measureCapabilities } from "./capabilities.ts";
import { createHostClient } from "./client.ts";
import { type HostConfig, readHostConfig } from "./config.ts";
import { runHost } from "./host.ts";
import { createTokenFile } from "./token-file.ts";

const GRACE_MS = 10_000;
const ADOPTED_POLL_MS = 500;

const leaving = new AbortController();
let opened: Allocations | null = null;
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
    const folders = {
      dir: config.dir,
      agentsDir: join(config.dir, "agents"),
      allocationsDir: join(config.dir, "allocations"),
    };
    // Agents' users pass through to their own folders.
    await mkdir(config.dir, { recursive: true, mode: 0o711 });
    await runHost(wire(config, folders), config, leaving.signal);
    return 0;
  } catch (error) {
    log("host failed", { error: messageOf(error) });
    return 1;
  }
}

function wire(
  config: HostConfig,
  { dir, agentsDir, allocationsDir }: { dir: string; agentsDir: string; allocationsDir: string },
): Parameters<typeof runHost>[0] {
  const client = createHostClient(config.apiUrl);
  return {
    client,
    tokens: createTokenFile(dir),
    measure: () => measureCapabilities({ dir, agentsDir }),
    log,
    openAllocations: async (onEnd) => {
      const allocations = await openAllocations(
        {
          command: [process.execPath, join(import.meta.dirname, "../main.ts")],
          apiUrl: client.url,
          allocationsDir,
          agentsDir,
          env: config.env,
          firstUid: config.firstUid,
          graceMs: GRACE_MS,
          adoptedPollMs: ADOPTED_POLL_MS,
          sweep: sweepMarker,
        },
        onEnd,
        (_level, message, fields) => log(message, fields),
      );
      opened = allocations;
      return allocations;
    },
    prepareAgent: async (name) => {
      const agent = findAgent(name);
      if (agent === null) throw new Error(`no agent is called "${name}"`);
      const options = { agentsDir, env: config.env, signal: leaving.signal };
      const onProgress = ({ step, detail }: { step: string; detail: string }) =>
        log("preparing agent", { agent: name, step, detail });
      await installAgent(agent, { ...options, onProgress });
      await verifyInstalled(agent, options);
    },
  };
}

async function endNow(): Promise<void> {
  await opened?.endAll();
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
