/**
 * Goal (R17): a gateway under a churn of streams keeps neither memory nor sockets: both are as
 * many in the end as they were when it had warmed up.
 *
 * Method: a gateway process (`gateway-entry.ts`) is called by hundreds of streams, some of whose
 * clients leave in the middle; its resident memory and open file descriptors are read from the
 * system, after a pause, again and again. Here a few seconds; SOAK_MINUTES=60 is the full form,
 * whose slope has to be under 1 MB an hour.
 */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Agent, request } from "undici";
import { openPostgresDatabase } from "../../orchestrator/db/postgres.ts";
import { createLog } from "../../orchestrator/runtime/log.ts";
import { seededRandom } from "../../orchestrator/runtime/random.ts";
import { openTestFolder } from "../support/embedded.ts";
import { eventually } from "../support/eventually.ts";
import { startFleet, startProvider } from "./fleet.ts";
import { openPayer } from "./payer.ts";
import { openChaosServer } from "./postgres.ts";

const SOAK_MS = Number(process.env["SOAK_MINUTES"] ?? 0.1) * 60_000;
const IS_FULL = SOAK_MS >= 30 * 60_000;
const STREAMS = IS_FULL ? 400 : 64;
const WARM_UP_MS = IS_FULL ? 5 * 60_000 : 2_000;
const SAMPLES = 6;
/** A heap that has just grown is no leak: over seconds only a coarse bound means something. */
const GROWTH_MB_MAX = 60;
const SLOPE_MB_MAX = 1;
/** Connections to the database and to the provider that are kept for the next call. */
const KEPT_SOCKETS = 32;

test("memory and sockets of a gateway do not grow", { skip: !isLinux() }, async (t) => {
  await using folder = await openTestFolder();
  await using server = await openChaosServer(folder.path);
  await using provider = await startProvider(4);
  const random = seededRandom(1);
  const setup = { databaseUrl: server.url, providerUrl: provider.url, connectionsMax: 6 };
  await using fleet = await startFleet({ ...setup, gateways: 1, random, points: [], nthMax: 1 });
  const url = fleet.url();
  const pid = fleet.pid();
  assert.ok(url !== null && pid !== null);
  await using database = await openPostgresDatabase({
    url: server.url,
    log: createLog("silent"),
  });
  const { secret } = await openPayer(database, 10n ** 15n);

  const calls = { whole: 0, left: 0 };
  await churn(WARM_UP_MS);
  const idleSockets = await quiet();
  const rssMb = [residentMb(pid)];
  for (let sample = 0; sample < SAMPLES; sample++) {
    await churn(SOAK_MS / SAMPLES);
    const sockets = await quiet();
    const most = idleSockets + KEPT_SOCKETS;
    assert.ok(sockets <= most, `${sockets} descriptors, ${idleSockets} at first`);
    rssMb.push(residentMb(pid));
  }
  t.diagnostic(`${JSON.stringify(calls)}; ${idleSockets} descriptors; MB: ${rssMb.join(", ")}`);
  const growthMb = (rssMb.at(-1) ?? 0) - (rssMb[0] ?? 0);
  const allowedMb = IS_FULL ? SLOPE_MB_MAX * (SOAK_MS / 3_600_000) : GROWTH_MB_MAX;
  assert.ok(growthMb <= allowedMb, `grew by ${growthMb} MB: ${rssMb.join(", ")}`);
  assert.ok(calls.whole > STREAMS && calls.left > KEPT_SOCKETS, JSON.stringify(calls));

  /** Streams that come and go; one client in four leaves before its answer is whole. */
  async function churn(forMs: number): Promise<void> {
    const agent = new Agent({ connections: STREAMS });
    const untilMs = performance.now() + forMs;
    const stream = async () => {
      while (performance.now() < untilMs) {
        const leaves = random.below(4) === 0;
        const signal = leaves ? AbortSignal.timeout(5 + random.below(30)) : null;
        try {
          await callOnce(agent, signal);
          calls.whole += 1;
        } catch (error) {
          if (!leaves) throw error;
          calls.left += 1;
        }
      }
    };
    await Promise.all(Array.from({ length: STREAMS }, stream));
    await agent.destroy();
  }

  async function callOnce(agent: Agent, signal: AbortSignal | null): Promise<void> {
    const { statusCode, body } = await request(`${url}/v1/chat/completions`, {
      method: "POST",
      dispatcher: agent,
      signal,
      headers: { authorization: `Bearer ${secret}`, "content-type": "application/json" },
      body: JSON.stringify({
        model: "normal",
        messages: [{ role: "user", content: "hello" }],
        max_tokens: 32,
        stream: true,
      }),
    });
    const text = await body.text();
    assert.equal(statusCode, 200, text);
  }

  /** Its descriptors, once what the last callers held is let go. */
  async function quiet(): Promise<number> {
    let before = -1;
    return eventually(
      async () => {
        await sleep(150);
        const last = before;
        before = descriptors(pid ?? 0);
        return { count: before, isSteady: before === last };
      },
      ({ isSteady }) => isSteady,
      20_000,
    ).then(({ count }) => count);
  }
});

function residentMb(pid: number): number {
  const [, kb = "0"] = /VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, "utf8")) ?? [];
  return Math.round(Number(kb) / 1024);
}

function descriptors(pid: number): number {
  return readdirSync(`/proc/${pid}/fd`).length;
}

function isLinux(): boolean {
  return process.platform === "linux";
}
