/**
 * A host's life: prepares, joins, says what it has and does what it is told, until it is to go.
 *
 * Its allocations work on while the orchestrator is away, and while this program is restarted. What
 * the orchestrator has given up is ended when it is heard again; the worker-agents are fenced by
 * themselves, too.
 */
import type { HostOrders, HostSync } from "../../orchestrator/contract/hosts.ts";
import type { Capabilities } from "../../orchestrator/contract/workers.ts";
import {
  type AllocationEnd,
  type AllocationId,
  type Allocations,
  isAllocationId,
} from "../allocations.ts";
import { pause } from "../clock.ts";
import { messageOf, OrchestratorAway, RequestRefused } from "../faults.ts";
import type { HostClient } from "./client.ts";
import type { HostConfig } from "./config.ts";
import { createLogSender } from "./log-sender.ts";
import type { TokenFile } from "./token-file.ts";

export interface HostDeps {
  client: HostClient;
  tokens: TokenFile;
  /** Adopts what an earlier run of this host left; `onEnd` is called once for each. */
  openAllocations: (
    onEnd: (id: AllocationId, outcome: AllocationEnd) => void,
  ) => Promise<Allocations>;
  /** Installed, and seen to answer. @throws Error */
  prepareAgent: (name: string) => Promise<void>;
  measure: () => Promise<Capabilities>;
  log: (message: string, fields: Record<string, unknown>) => void;
  /** A name that no other run of a host program has. */
  newRunId: () => string;
}

const WAIT_MS = 10_000;
/** Between two syncs, so that one that is answered at once is no busy loop. */
const PAUSE_MS = 50;
const FIRST_AWAY_MS = 200;
const LONGEST_AWAY_MS = 5_000;
const PREPARE_AGAIN_MS = 15_000;
const MEASURE_EVERY_MS = 60_000;

/**
 * Resolves when the host has left, as `leaving` asked for.
 *
 * @throws Error when it may not join and never will: its message says what to do.
 */
export async function runHost(
  { client, tokens, openAllocations, prepareAgent, measure, log, newRunId }: HostDeps,
  { name, slots, joinToken, drainMs }: Pick<HostConfig, "name" | "slots" | "joinToken" | "drainMs">,
  leaving: AbortSignal,
): Promise<void> {
  const runId = newRunId();
  let syncs = 0;
  const ended = new Map<AllocationId, AllocationEnd>();
  const stopping = new Set<AllocationId>();
  let wake: () => void = () => {};
  const allocations = await openAllocations((id, outcome) => {
    ended.set(id, outcome);
    stopping.delete(id);
    wake();
  });
  const logs = createLogSender(client, allocations, log);
  const measured = { atMs: Number.NEGATIVE_INFINITY, capabilities: await measure() };
  let workerToken = await enter();
  if (workerToken === null) return;
  const drain = startDrain();
  for (let awayMs = FIRST_AWAY_MS; ; ) {
    try {
      const orders = await sync(workerToken);
      if (orders !== null) obey(orders, workerToken);
      awayMs = FIRST_AWAY_MS;
      if (orders?.isGoodbye && allocations.ids().length === 0 && ended.size === 0) break;
      await pause(PAUSE_MS);
    } catch (error) {
      if (error instanceof RequestRefused && error.status === 401) {
        workerToken = await enterAgain(error);
        if (workerToken === null) break;
      } else if (error instanceof OrchestratorAway || error instanceof RequestRefused) {
        log("orchestrator does not answer; work goes on", { error: messageOf(error) });
        if (leaving.aborted && allocations.ids().length === 0) break;
        await pause(awayMs);
        awayMs = Math.min(awayMs * 2, LONGEST_AWAY_MS);
      } else {
        throw error;
      }
    }
  }
  clearTimeout(drain.timer);
  logs.close();
  log("left", { worker: name });

  /** Prepares and joins; the worker token, or null when it is to go before that. */
  async function enter(): Promise<string | null> {
    for (let awayMs = FIRST_AWAY_MS; !leaving.aborted; ) {
      const kept = await tokens.read();
      const token = kept ?? joinToken;
      if (token === null) {
        throw new Error(
          "AUTOCODE_JOIN_TOKEN or AUTOCODE_JOIN_TOKEN_FILE is not set, and this host has not " +
            "joined before: make a token with `autocode worker token`",
        );
      }
      try {
        const { pool, agents } = await client.plan(token);
        if (!(await prepare(agents))) continue;
        measured.capabilities = await measure();
        const worker = kept ?? (await join());
        log("joined", { worker: name, pool, slots });
        return worker;
      } catch (error) {
        if (!(error instanceof OrchestratorAway)) {
          const isRefused = error instanceof RequestRefused;
          if (!isRefused || (error.status !== 401 && error.status !== 409)) throw error;
          if (error.status === 401 && kept === null) throw error;
          if (error.status === 401) await tokens.forget();
        }
        log("not joined yet", { error: messageOf(error) });
        await pause(awayMs, leaving);
        awayMs = Math.min(awayMs * 2, LONGEST_AWAY_MS);
      }
    }
    return null;
  }

  /** Whether all of them are ready; one that cannot be installed is tried again by the caller. */
  async function prepare(agents: readonly string[]): Promise<boolean> {
    try {
      for (const agent of agents) await prepareAgent(agent);
      return true;
    } catch (error) {
      log("agent not prepared; this host takes nothing until it is", { error: messageOf(error) });
      await pause(PREPARE_AGAIN_MS, leaving);
      return false;
    }
  }

  async function join(): Promise<string> {
    const { capabilities } = measured;
    const request = { join_token: joinToken ?? "", name, slots, capabilities };
    const { worker_token: token } = await client.join(request);
    await tokens.write(token);
    return token;
  }

  /** Our token is good for nothing: another host has our name, and our work was given away. */
  async function enterAgain(refusal: Error): Promise<string | null> {
    log("no longer known; its allocations are ended", { error: messageOf(refusal) });
    await tokens.forget();
    await allocations.endAll();
    ended.clear();
    if (joinToken === null) throw refusal;
    return enter();
  }

  /** Null when something here changed first: there is more to say. */
  async function sync(token: string): Promise<(HostOrders & { isGoodbye: boolean }) | null> {
    if (performance.now() - measured.atMs > MEASURE_EVERY_MS) {
      measured.capabilities = await measure();
      measured.atMs = performance.now();
    }
    const changed = new AbortController();
    wake = () => changed.abort();
    const said = saying();
    const isWaiting = () => leaving.aborted === said.is_leaving;
    const interrupt = AbortSignal.any([changed.signal, ...(said.is_leaving ? [] : [leaving])]);
    try {
      return { ...(await client.sync(token, said, interrupt)), isGoodbye: said.is_leaving };
    } catch (error) {
      if (changed.signal.aborted || !isWaiting()) return null;
      throw error;
    }
  }

  function saying(): HostSync {
    const here = allocations.ids().map((id) => {
      const status = stopping.has(id) ? ("stopping" as const) : ("running" as const);
      return { allocation_id: id, status };
    });
    const over = [...ended].map(([id, status]) => ({ allocation_id: id, status }));
    const { capabilities } = measured;
    const all = [...here, ...over];
    const own = { is_leaving: leaving.aborted, slots, capabilities, logs: logs.ids() };
    // A goodbye waits for nothing.
    const waitMs = leaving.aborted && all.length === 0 ? 0 : WAIT_MS;
    syncs += 1;
    return { wait_ms: waitMs, run_id: runId, number: syncs, ...own, allocations: all };
  }

  function obey({ start, stop, forget, logs: wanted }: HostOrders, token: string): void {
    for (const id of forget) if (isAllocationId(id)) ended.delete(id);
    for (const id of stop) if (isAllocationId(id)) void end(id);
    for (const { allocation_id: id, enrolment_token: enrolment } of start) {
      if (!isAllocationId(id) || allocations.status(id) !== null || ended.has(id)) continue;
      log("allocation taken", { allocation_id: id });
      void allocations.start(id, enrolment);
    }
    logs.follow(wanted, token);
  }

  async function end(id: AllocationId): Promise<void> {
    if (allocations.status(id) === null) return;
    stopping.add(id);
    log("allocation is being stopped", { allocation_id: id });
    await allocations.end(id);
  }

  /** What works on for longer than a drain may take is ended. */
  function startDrain(): { timer: NodeJS.Timeout | undefined } {
    const state: { timer: NodeJS.Timeout | undefined } = { timer: undefined };
    const begin = () => {
      log("leaving: takes nothing new", { allocations: allocations.ids().length });
      state.timer = setTimeout(() => {
        for (const id of allocations.ids()) void end(id);
      }, drainMs);
    };
    if (leaving.aborted) begin();
    else leaving.addEventListener("abort", begin, { once: true });
    return state;
  }
}
