/** What a host program is made of, on this machine. */
import { join } from "node:path";
import { findAgent } from "../agents/registry.ts";
import { type Allocations, openAllocations } from "../allocations.ts";
import { installAgent, verifyInstalled } from "../install.ts";
import { sweepMarker } from "../process.ts";
import { makePassage } from "../rooms.ts";
import { measureCapabilities } from "./capabilities.ts";
import { createHostClient } from "./client.ts";
import type { HostConfig } from "./config.ts";
import type { HostDeps } from "./host.ts";
import { createTokenFile } from "./token-file.ts";

const GRACE_MS = 10_000;
const ADOPTED_POLL_MS = 500;

/**
 * @param command the worker-agent's command line.
 * @param onOpened told the allocations as soon as they are there.
 */
export async function wireHost(
  config: Pick<HostConfig, "apiUrl" | "dir" | "env" | "firstUid">,
  {
    command,
    leaving,
    log,
    newRunId,
    onOpened,
  }: {
    command: readonly [string, ...string[]];
    leaving: AbortSignal;
    log: HostDeps["log"];
    newRunId: HostDeps["newRunId"];
    onOpened?: (allocations: Allocations) => void;
  },
): Promise<HostDeps> {
  const { dir, env, firstUid } = config;
  const agentsDir = join(dir, "agents");
  const client = createHostClient(config.apiUrl);
  await makePassage(dir);
  return {
    client,
    tokens: createTokenFile(dir),
    measure: () => measureCapabilities({ dir, agentsDir }),
    log,
    newRunId,
    openAllocations: async (onEnd) => {
      const allocations = await openAllocations(
        {
          ...{ command, apiUrl: client.url, agentsDir, env, firstUid },
          allocationsDir: join(dir, "allocations"),
          graceMs: GRACE_MS,
          adoptedPollMs: ADOPTED_POLL_MS,
          sweep: sweepMarker,
        },
        onEnd,
        (_level, message, fields) => log(message, fields),
      );
      onOpened?.(allocations);
      return allocations;
    },
    prepareAgent: async (name) => {
      const agent = findAgent(name);
      if (agent === null) throw new Error(`no agent is called "${name}"`);
      const options = { agentsDir, env, signal: leaving };
      const onProgress = ({ step, detail }: { step: string; detail: string }) =>
        log("preparing agent", { agent: name, step, detail });
      await installAgent(agent, { ...options, onProgress });
      await verifyInstalled(agent, options);
    },
  };
}
