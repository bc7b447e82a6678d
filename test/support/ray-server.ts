/**
 * Ray itself, of `npm run engines ray vllm`, for a test in a network of its own
 * (`npm run test:ray`): it listens on every interface and asks for no key.
 */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { networkInterfaces, tmpdir } from "node:os";
import { join } from "node:path";
import { env } from "node:process";
import { setTimeout as pause } from "node:timers/promises";
import { eventually } from "./eventually.ts";

const ENGINES = join(import.meta.dirname, "../../.engines");
const BIN = join(ENGINES, "ray/bin");
export const TINY_WEIGHTS = join(ENGINES, "vllm-models/tiny");
const DASHBOARD_PORT = 18_265;
export const RAY_METRICS_PORT = 18_080;
export const RAY_DASHBOARD = `http://127.0.0.1:${DASHBOARD_PORT}`;
const START_MS = 300_000;
const GRACE_MS = 60_000;

export function whyNoRay(): string | false {
  if (!existsSync(join(BIN, "ray")) || !existsSync(TINY_WEIGHTS)) {
    const reason = "Ray is not installed: npm run engines ray vllm";
    if (env["AUTOCODE_REQUIRE_ENGINES"] === "all") assert.fail(reason);
    return reason;
  }
  const interfaces = Object.keys(networkInterfaces()).filter((name) => name !== "lo");
  const where = "it listens on every interface: npm run test:ray gives it a network of its own";
  return interfaces.length === 0 ? false : where;
}

/** Ended by the group that it and all it starts are in, and by what is left of this network's. */
export async function startRay() {
  // Short: Ray's sockets lie in it, and their paths have a limit.
  const folder = await mkdtemp(join(tmpdir(), "ray-"));
  const child = spawn(
    join(BIN, "ray"),
    [
      ...["start", "--head", "--block", "--disable-usage-stats", "--num-cpus=8"],
      ...["--node-ip-address=127.0.0.1", "--port=16379", `--temp-dir=${folder}`],
      ...["--dashboard-host=127.0.0.1", `--dashboard-port=${DASHBOARD_PORT}`],
      ...["--min-worker-port=20000", "--max-worker-port=20999"],
      `--metrics-export-port=${RAY_METRICS_PORT}`,
      `--object-store-memory=${256 * 1024 * 1024}`,
    ],
    {
      detached: true,
      cwd: folder,
      env: {
        PATH: `${BIN}:${env["PATH"]}`,
        HOME: folder,
        ...{ RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER: "0", RAY_USAGE_STATS_ENABLED: "0" },
        ...{ OMP_NUM_THREADS: "1", VLLM_NO_USAGE_STATS: "1", DO_NOT_TRACK: "1" },
      },
      stdio: ["ignore", "pipe", "pipe"],
    },
  );
  let said = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.on("data", (bytes: Buffer) => {
      said = (said + bytes).slice(-4000);
    });
  }
  const ray = { orEnded, [Symbol.asyncDispose]: close };
  try {
    const isUp = () =>
      fetch(`${RAY_DASHBOARD}/api/version`).then(
        ({ ok }) => ok,
        () => false,
      );
    await eventually(async () => orEnded(isUp()), Boolean, START_MS);
  } catch (error) {
    await close();
    assert.fail(`Ray did not come up: ${(error as Error).message}\n${said}`);
  }
  return ray;

  /** The same, looked for at leisure, unless Ray has ended. */
  async function orEnded<Value>(work: Promise<Value>): Promise<Value> {
    if (hasEnded(child)) throw new Error(`Ray ended with ${child.exitCode}: ${said}`);
    await pause(500);
    return work;
  }

  async function close(): Promise<void> {
    if (!hasEnded(child)) child.kill("SIGTERM");
    await eventually(() => hasEnded(child), Boolean, GRACE_MS).catch(() => child.kill("SIGKILL"));
    for (const pid of await pidsWith(folder)) {
      try {
        process.kill(pid, "SIGKILL");
      } catch {
        // It ended by itself in between.
      }
    }
    await eventually(
      () => pidsWith(folder),
      ({ length }) => length === 0,
      GRACE_MS,
    );
    // The last of them may still be writing its log's end.
    await rm(folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 250 });
  }
}

/** What was started for this folder, by its command line or its environment. */
async function pidsWith(folder: string): Promise<number[]> {
  const found: number[] = [];
  for (const name of await readdir("/proc")) {
    if (!/^\d+$/.test(name) || Number(name) === process.pid) continue;
    const texts = await Promise.all(
      ["cmdline", "environ"].map((file) =>
        readFile(`/proc/${name}/${file}`, "latin1").catch(() => ""),
      ),
    );
    if (texts.some((text) => text.includes(folder))) found.push(Number(name));
  }
  return found;
}

function hasEnded({ exitCode, signalCode }: ChildProcess): boolean {
  return exitCode !== null || signalCode !== null;
}
