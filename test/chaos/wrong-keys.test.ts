/**
 * Goal (S7): how long the refusal of a key takes says nothing of it, and a flood of wrong keys
 * takes nothing from those who have a right one.
 *
 * Method: a gateway process. Keys that are a real one but for their end, and random ones, are
 * tried in a drawn order, and their times compared by Welch's t as dudect does (the slowest tenth
 * left out; |t| over 4.5 is a leak). The flood is sent at a rate, beside honest calls. Figures are
 * judged in the full forms alone, which a busy machine cannot give: KEY_TRIES=100000 and
 * FLOOD_SECONDS=30; what is refused and answered is judged always.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Agent, request } from "undici";
import { openPostgresDatabase } from "../../orchestrator/db/postgres.ts";
import { createLog } from "../../orchestrator/runtime/log.ts";
import { type Random, seededRandom } from "../../orchestrator/runtime/random.ts";
import { openTestDatabase } from "../support/database.ts";
import { startFleet, startProvider } from "./fleet.ts";
import { openPayer } from "./payer.ts";

const SEED = Number(process.env["SEED"] ?? 1);
const TRIES = Number(process.env["KEY_TRIES"] ?? 600);
const FLOOD_MS = Number(process.env["FLOOD_SECONDS"] ?? 1) * 1_000;
const IS_FULL_TRIES = TRIES >= 100_000;
const IS_FULL_FLOOD = FLOOD_MS >= 30_000;
const FLOOD_A_SECOND = 5_000;
const TICK_MS = 10;
/** What is not answered yet, at most: a flood that outruns its sender says nothing. */
const OPEN_MAX = 500;
const LEAK_T = 4.5;
const END_CHARACTERS = 8;
const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

test(`S7: ${TRIES} wrong keys, near and far, take one time, SEED=${SEED}`, async (t) => {
  await using world = await openWorld();
  const { random, secret } = world;
  const nearMs: number[] = [];
  const farMs: number[] = [];
  for (let tries = 0; tries < TRIES; tries++) {
    const isNear = random.below(2) === 0;
    const kept = isNear ? secret.length - END_CHARACTERS : secret.indexOf("-") + 1;
    const wrong = secret.slice(0, kept) + draw(random, secret.length - kept);
    const begunMs = performance.now();
    assert.equal(await world.models(wrong), 401);
    (isNear ? nearMs : farMs).push(performance.now() - begunMs);
  }
  assert.equal(await world.models(secret), 200);
  const tenthMs = [...nearMs, ...farMs].toSorted((a, b) => a - b)[Math.floor(TRIES * 0.9)] ?? 0;
  const [near, far] = [nearMs, farMs].map((all) => momentsOf(all.filter((ms) => ms < tenthMs)));
  assert.ok(near !== undefined && far !== undefined);
  const spread = Math.sqrt(near.variance / near.count + far.variance / far.count);
  const welch = (near.mean - far.mean) / spread;
  t.diagnostic(
    `near ${near.mean.toFixed(4)} ms, far ${far.mean.toFixed(4)} ms, t = ${welch.toFixed(2)}`,
  );
  if (IS_FULL_TRIES) assert.ok(Math.abs(welch) < LEAK_T, `t = ${welch}`);
});

test(`S7: honest callers during ${FLOOD_MS / 1_000} s of wrong keys`, async (t) => {
  await using world = await openWorld();
  const quietMs = await honest(FLOOD_MS);
  const flood = { sent: 0, refused: 0 };
  const [busyMs] = await Promise.all([honest(FLOOD_MS), pour(flood, FLOOD_MS)]);
  const [before, during] = [p99(quietMs), p99(busyMs)];
  t.diagnostic(
    `${flood.sent} wrong keys; honest p99 ${before.toFixed(1)} ms before ` +
      `(of ${quietMs.length}), ${during.toFixed(1)} ms during (of ${busyMs.length})`,
  );
  assert.ok(flood.sent > 0 && busyMs.length > 0);
  assert.equal(flood.refused, flood.sent, "each was refused");
  if (IS_FULL_FLOOD) assert.ok(during <= 2 * before, `${during} ms, ${before} before`);

  async function honest(forMs: number): Promise<number[]> {
    const tookMs: number[] = [];
    const untilMs = performance.now() + forMs;
    while (performance.now() < untilMs) {
      const begunMs = performance.now();
      assert.equal(await world.chat(), 200);
      tookMs.push(performance.now() - begunMs);
    }
    return tookMs;
  }

  async function pour(count: { sent: number; refused: number }, forMs: number): Promise<void> {
    const begunMs = performance.now();
    const open = new Set<Promise<void>>();
    for (let goneMs = 0; goneMs < forMs; goneMs = performance.now() - begunMs) {
      const due = Math.floor((goneMs / 1_000) * FLOOD_A_SECOND);
      for (; count.sent < due && open.size < OPEN_MAX; count.sent++) {
        const one = world.models(`ak-${draw(world.random, 43)}`).then((status) => {
          if (status === 401) count.refused += 1;
          open.delete(one);
        });
        open.add(one);
      }
      await sleep(TICK_MS);
    }
    await Promise.all(open);
  }
});

async function openWorld() {
  await using opening = new AsyncDisposableStack();
  const database = opening.use(await openTestDatabase());
  const provider = opening.use(await startProvider(1));
  const random = seededRandom(SEED);
  const setup = { databaseUrl: database.url, providerUrl: provider.url, connectionsMax: 6 };
  const fleet = opening.use(
    await startFleet({ ...setup, gateways: 1, random, points: [], nthMax: 1 }),
  );
  const url = fleet.url();
  const own = opening.use(
    await openPostgresDatabase({ url: database.url, log: createLog("silent") }),
  );
  const { secret } = await openPayer(own, 10n ** 15n);
  const agent = opening.adopt(new Agent({ connections: 32 }), (one) => one.destroy());
  const opened = opening.move();
  return { random, secret, models, chat, [Symbol.asyncDispose]: () => opened.disposeAsync() };

  async function models(key: string): Promise<number> {
    const headers = { authorization: `Bearer ${key}` };
    const { statusCode, body } = await request(`${url}/v1/models`, { dispatcher: agent, headers });
    await body.dump();
    return statusCode;
  }

  async function chat(): Promise<number> {
    const { statusCode, body } = await request(`${url}/v1/chat/completions`, {
      method: "POST",
      headers: { authorization: `Bearer ${secret}`, "content-type": "application/json" },
      body: JSON.stringify({
        model: "normal",
        messages: [{ role: "user", content: "hello" }],
        max_tokens: 4,
      }),
    });
    await body.dump();
    return statusCode;
  }
}

function draw(random: Random, length: number): string {
  return Array.from({ length }, () => ALPHABET[random.below(ALPHABET.length)]).join("");
}

function momentsOf(values: readonly number[]) {
  const count = values.length;
  const mean = values.reduce((sum, value) => sum + value, 0) / count;
  const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (count - 1);
  return { count, mean, variance };
}

function p99(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length * 0.99)] ?? 0;
}
