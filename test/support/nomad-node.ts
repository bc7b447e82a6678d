/** The strict Nomad stub with a node that runs real worker-agents, as `nomad agent -dev` does. */
import { join } from "node:path";
import { createLog } from "../../orchestrator/runtime/log.ts";
import { openLocalScheduler } from "../../orchestrator/scheduler/local.ts";
import { thisMachine } from "../../orchestrator/scheduler/machine.ts";
import { sweepMarker } from "../../worker-agent/process.ts";
import { openFolder, ROOT } from "./installation.ts";
import { openNomadStub, type StubOptions } from "./nomad-stub/stub.ts";

export type NomadNode = Awaited<ReturnType<typeof openNomadNode>>;

/** `agentsDir`: of the installation whose trials it runs. */
export async function openNomadNode(
  { agentsDir, apiUrl }: { agentsDir: () => string; apiUrl: () => string },
  options: Partial<StubOptions> = {},
) {
  await using opening = new AsyncDisposableStack();
  const folder = opening.use(await openFolder("autocode-nomad-"));
  const machine = {
    command: [process.execPath, join(ROOT, "worker-agent/main.ts")] as const,
    apiUrl,
    allocationsDir: join(folder.path, "allocations"),
    agentsDir: agentsDir(),
    slots: 16,
    machine: thisMachine(),
    env: { PATH: process.env["PATH"] ?? "/usr/local/bin:/usr/bin:/bin" },
    firstUid: process.getuid?.() === 0 ? 1_900_000_000 : null,
    graceMs: 5_000,
    adoptedPollMs: 50,
    sweep: sweepMarker,
  };
  const local = opening.use(await openLocalScheduler(machine, createLog("silent")));
  const stub = opening.use(await openNomadStub({ local, ...options }));
  const opened = opening.move();
  return { stub, local, [Symbol.asyncDispose]: () => opened.disposeAsync() };
}
