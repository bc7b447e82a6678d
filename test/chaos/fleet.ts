/** Gateways and a provider as processes; a gateway that dies is started again, to die elsewhere. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { Random } from "../../orchestrator/runtime/random.ts";
import { type GatewaySetup, KILL_POINTS, type KillPoint } from "./points.ts";
import type { ProviderCount } from "./provider.ts";

const dir = import.meta.dirname;

export interface ProviderProcess extends AsyncDisposable {
  url: string;
  count(): Promise<ProviderCount>;
}

/** @param paceMs between the chunks of an answer */
export async function startProvider(paceMs: number): Promise<ProviderProcess> {
  const { child, line } = await launch("provider.ts", {}, [String(paceMs)]);
  return {
    url: line,
    count: async () => (await fetch(line)).json() as Promise<ProviderCount>,
    [Symbol.asyncDispose]: () => end(child, "SIGKILL"),
  };
}

export interface FleetOptions extends Omit<GatewaySetup, "kill" | "isSliced"> {
  gateways: number;
  random: Random;
  /** The points at which they die; none: they live. */
  points: readonly KillPoint[];
  /** The most times that one passes its point before it dies. */
  nthMax: number;
}

export interface Fleet extends AsyncDisposable {
  /** The address of one that is said to be there; it may be dying. */
  url(): string | null;
  /** The process of the first one, where it runs. */
  pid(): number | null;
  /** How often each point was met. */
  readonly deaths: Record<KillPoint, number>;
  /** From now on nobody dies by itself. */
  spare(): Promise<void>;
}

export async function startFleet({ gateways, random, points, nthMax, ...setup }: FleetOptions) {
  const deaths = Object.fromEntries(KILL_POINTS.map((point) => [point, 0])) as Fleet["deaths"];
  const running: ({ child: ChildProcess; line: string } | null)[] = Array(gateways).fill(null);
  const watching: Promise<void>[] = [];
  let isEnding = false;
  let isSparing = points.length === 0;
  let drawn = 0;
  const starts = await Promise.allSettled(running.map((_, index) => startOne(index)));
  const failed = starts.find((one) => one.status === "rejected");
  if (failed !== undefined) {
    await dispose();
    throw failed.reason;
  }
  const fleet: Fleet = { url, pid, deaths, spare, [Symbol.asyncDispose]: dispose };
  return fleet;

  function url(): string | null {
    return running[random.below(gateways)]?.line ?? null;
  }

  function pid(): number | null {
    return running[0]?.child.pid ?? null;
  }

  async function startOne(index: number): Promise<void> {
    // Each point in its turn, so that few deaths meet all of them.
    const point = isSparing ? undefined : points[drawn++ % points.length];
    const kill = point === undefined ? null : { point, nth: 1 + random.below(nthMax) };
    const given: GatewaySetup = { ...setup, kill, isSliced: point === "extension" };
    const launched = await launch("gateway-entry.ts", { GATEWAY: JSON.stringify(given) });
    running[index] = launched;
    watching.push(watch(index, launched.child, point ?? null));
  }

  async function watch(index: number, child: ChildProcess, point: KillPoint | null): Promise<void> {
    if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
    running[index] = null;
    if (isEnding) return;
    assert.equal(child.signalCode, "SIGKILL", `a gateway ended by itself: ${child.exitCode}`);
    if (point !== null) deaths[point] += 1;
    await startOne(index);
  }

  /** Those that still wait for their point are ended, mid-work as they may be, and replaced. */
  async function spare(): Promise<void> {
    isSparing = true;
    const old = running.filter((one) => one !== null);
    for (const { child } of old) child.kill("SIGKILL");
    while (running.some((one) => one === null || old.includes(one))) {
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  async function dispose(): Promise<void> {
    isEnding = true;
    await Promise.all(running.map((one) => one && end(one.child, "SIGTERM")));
    await Promise.all(watching);
    await Promise.all(running.map((one) => one && end(one.child, "SIGKILL")));
  }
}

/** Starts a file of this folder; its first line of output says that it is ready. */
async function launch(file: string, env: Record<string, string>, args: readonly string[] = []) {
  const child = spawn(process.execPath, [join(dir, file), ...args], {
    stdio: ["ignore", "pipe", "inherit"],
    env: { ...process.env, ...env },
  });
  const lines = createInterface({ input: child.stdout });
  const line = await new Promise<string>((resolve, reject) => {
    lines.once("line", resolve);
    child.once("exit", () => reject(new Error(`${file} ended before it was ready`)));
  });
  return { child, line };
}

async function end(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, "exit");
  child.kill(signal);
  await exited;
}
