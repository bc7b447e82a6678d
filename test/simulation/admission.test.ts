/**
 * Goal (R3): of N parallel requests against a budget for K, through any number of gateways, exactly
 * K are admitted: each of them reaches the model server, and none of the others does.
 *
 * Method: gateways on one database, and a model server that answers only when every other request
 * has been refused. CI takes a few K of N=64; the full grid (N=256, every K, 1 to 4 gateways) is
 * FULL=1, and ROUNDS=n repeats it.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Agent, request } from "undici";
import { openPostgresDatabase } from "../../orchestrator/db/postgres.ts";
import { createKeys } from "../../orchestrator/keys/postgres.ts";
import { createLedger } from "../../orchestrator/ledger/postgres.ts";
import { systemClock } from "../../orchestrator/runtime/clock.ts";
import { createIds } from "../../orchestrator/runtime/ids.ts";
import { createLog } from "../../orchestrator/runtime/log.ts";
import { systemRandom } from "../../orchestrator/runtime/random.ts";
import { createPostgresCalls } from "../../proxy/gateway/calls-postgres.ts";
import { createGateway, type Gateway } from "../../proxy/gateway/server.ts";
import type { Upstream } from "../../proxy/gateway/upstream.ts";
import { openPayer, PROVIDER } from "../chaos/payer.ts";
import { auditLedger } from "../support/audit.ts";
import { openTestDatabase, type TestDatabase } from "../support/database.ts";
import { eventually } from "../support/eventually.ts";

const IS_FULL = process.env["FULL"] === "1";
const ROUNDS = Number(process.env["ROUNDS"] ?? 1);
const REQUESTS = IS_FULL ? 256 : 64;
const COVERED = IS_FULL
  ? Array.from({ length: REQUESTS - 1 }, (_, at) => at + 1)
  : [1, 7, REQUESTS - 1];
const GATEWAYS = IS_FULL ? [1, 2, 3, 4] : [1, 4];
const BODY = JSON.stringify({
  model: "normal",
  messages: [{ role: "user", content: "hello" }],
  max_tokens: 16,
});
const ANSWER = Buffer.from(
  JSON.stringify({
    choices: [{ message: { content: "hi" } }],
    usage: { prompt_tokens: 10, completion_tokens: 1, total_tokens: 11 },
  }),
);

/** A model server that keeps everybody waiting until it is told to answer. */
function createPatientUpstream() {
  let forwarded = 0;
  const waiting: (() => void)[] = [];
  const upstream: Upstream = {
    send: (_, listener) => {
      forwarded += 1;
      waiting.push(() => {
        listener.onHead(200, { "content-type": "application/json" });
        listener.onData(ANSWER);
        listener.onEnd();
      });
      return { isSent: () => true, abort() {}, pause() {}, resume() {} };
    },
    close: async () => {},
  };
  return {
    upstream,
    forwarded: () => forwarded,
    waiting: () => waiting.length,
    answer: () => {
      for (const one of waiting.splice(0)) one();
    },
  };
}

/** Each on a pool of its own, as another process would have. */
async function openGateways(database: TestDatabase, upstream: Upstream, count: number) {
  const log = createLog("silent");
  const clock = systemClock;
  const ids = createIds(clock, systemRandom);
  await using opening = new AsyncDisposableStack();
  const gateways: { gateway: Gateway; url: string }[] = [];
  for (let at = 0; at < count; at++) {
    const own = await openPostgresDatabase({ url: database.url, log, connectionsMax: 6 });
    opening.defer(() => own[Symbol.asyncDispose]());
    const ledger = createLedger(own, clock);
    const provider = {
      name: PROVIDER,
      baseUrl: "http://127.0.0.1:1",
      apiKey: null,
      authStyle: "bearer" as const,
      isHosted: false,
      hasContinuousUsage: false,
      hasTokenCount: false,
    };
    const gateway = createGateway(
      {
        keys: createKeys(own, clock, ids, systemRandom),
        random: systemRandom,
        ledger,
        calls: createPostgresCalls(own, ledger),
        upstream,
        providers: () => provider,
        dayAccount: async () => null,
        ids,
        clock,
        log,
      },
      { callsPerKeyMax: 1_000 },
    );
    opening.defer(() => gateway.close(2_000));
    gateways.push({ gateway, url: (await gateway.listen()).url });
  }
  const opened = opening.move();
  return { gateways, [Symbol.asyncDispose]: () => opened.disposeAsync() };
}

for (const count of GATEWAYS) {
  test(`${REQUESTS} requests at once through ${count} gateways: exactly K reach the model`, async () => {
    await using database = await openTestDatabase();
    const model = createPatientUpstream();
    await using opened = await openGateways(database, model.upstream, count);
    await using stack = new AsyncDisposableStack();
    const agent = stack.adopt(new Agent({ connections: REQUESTS }), (one) => one.destroy());
    const urls = opened.gateways.map(({ url }) => url);
    const ceilingNanos = await ceilingOf(database, urls[0] ?? "", agent, model);
    for (let round = 0; round < ROUNDS; round++) {
      for (const covered of COVERED) await runRound(covered);
    }
    await auditLedger(database);

    async function runRound(covered: number): Promise<void> {
      const fundedNanos = ceilingNanos * BigInt(covered) + ceilingNanos / 2n;
      const payer = await openPayer(database, fundedNanos);
      const before = model.forwarded();
      let refused = 0;
      const all = Array.from({ length: REQUESTS }, async (_, at) => {
        const status = await call(urls[at % urls.length] ?? "", payer.secret, agent);
        if (status !== 200) refused += 1;
        return status;
      });
      // Whoever was refused was so while those that were admitted held what they had.
      await eventually(
        () => refused + model.waiting(),
        (decided) => decided === REQUESTS,
        30_000,
      );
      model.answer();
      const statuses = await Promise.all(all);
      const admitted = statuses.filter((status) => status === 200).length;
      assert.deepEqual(
        { admitted, forwarded: model.forwarded() - before },
        { admitted: covered, forwarded: covered },
        `K=${covered}: ${JSON.stringify(Object.groupBy(statuses, String))}`,
      );
    }
  });
}

/** What one such call reserves: read off the books while it runs. */
async function ceilingOf(
  database: TestDatabase,
  url: string,
  agent: Agent,
  model: ReturnType<typeof createPatientUpstream>,
): Promise<bigint> {
  const payer = await openPayer(database, 1_000_000n);
  const ledger = createLedger(database, systemClock);
  const running = call(url, payer.secret, agent);
  await eventually(model.waiting, (count) => count === 1);
  const balance = await ledger.balance(payer.budget);
  model.answer();
  assert.equal(await running, 200);
  assert.ok(balance !== null && balance.reservedNanos > 0n);
  return balance.reservedNanos;
}

async function call(url: string, secret: string, dispatcher: Agent): Promise<number> {
  const { statusCode, body } = await request(`${url}/v1/chat/completions`, {
    method: "POST",
    dispatcher,
    headers: { authorization: `Bearer ${secret}`, "content-type": "application/json" },
    body: BODY,
  });
  await body.dump();
  return statusCode;
}
