/** A gateway, a provider and a writer of acknowledged transfers, on a server to be cruel to. */
import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { sql } from "drizzle-orm";
import { request } from "undici";
import { openPostgresDatabase } from "../../orchestrator/db/postgres.ts";
import { rows } from "../../orchestrator/db/rows.ts";
import { createKeys } from "../../orchestrator/keys/postgres.ts";
import { createLedger } from "../../orchestrator/ledger/postgres.ts";
import { systemClock } from "../../orchestrator/runtime/clock.ts";
import { createIds, type TransferId } from "../../orchestrator/runtime/ids.ts";
import { createLog } from "../../orchestrator/runtime/log.ts";
import { systemRandom } from "../../orchestrator/runtime/random.ts";
import { createPostgresCalls } from "../../proxy/gateway/calls-postgres.ts";
import { createGateway } from "../../proxy/gateway/server.ts";
import { createUndiciUpstream } from "../../proxy/gateway/undici.ts";
import { auditLedger } from "../support/audit.ts";
import { eventually } from "../support/eventually.ts";
import { openPayer, PROVIDER } from "./payer.ts";
import type { ChaosServer } from "./postgres.ts";
import { openProvider } from "./provider.ts";

const FUNDED_NANOS = 10_000_000n;
const WRITERS = 8;
const TIMEOUT_MS = 60_000;
/** R6: how long after the server is back it may take until calls are served. */
const RECOVER_MS = 10_000;

export interface Answer {
  status: number;
  retryAfter: string | undefined;
  text: string;
}

export type ChaosWorld = Awaited<ReturnType<typeof openChaosWorld>>;

/** @param paceMs between the chunks of an answer */
export async function openChaosWorld(server: ChaosServer, paceMs: number) {
  await using opening = new AsyncDisposableStack();
  const [clock, log] = [systemClock, createLog("silent")];
  const ids = createIds(clock, systemRandom);
  const open = async (connectionsMax: number) =>
    opening.use(await openPostgresDatabase({ url: server.url, log, connectionsMax }));
  const database = await open(4);
  const writing = await open(WRITERS);
  const ledger = createLedger(database, clock);
  const payer = await openPayer(database, FUNDED_NANOS);
  const provider = await openProvider(paceMs);
  opening.defer(() => void provider.close());
  const gateway = createGateway(
    {
      keys: createKeys(database, clock, ids, systemRandom),
      random: systemRandom,
      ledger,
      calls: createPostgresCalls(database, ledger),
      upstream: createUndiciUpstream({
        connectTimeoutMs: 2_000,
        headTimeoutMs: TIMEOUT_MS,
        chunkTimeoutMs: TIMEOUT_MS,
      }),
      providers: () => ({
        name: PROVIDER,
        baseUrl: provider.url,
        apiKey: null,
        authStyle: "bearer",
        isHosted: false,
        hasContinuousUsage: false,
        hasTokenCount: false,
      }),
      dayAccount: async () => null,
      ids,
      clock,
      log,
    },
    { callTimeoutMs: TIMEOUT_MS, settleGraceMs: TIMEOUT_MS },
  );
  opening.defer(() => gateway.close(5_000));
  const { url } = await gateway.listen();
  const acknowledged = new Set<TransferId>();
  const writers = { isOver: false };
  const running = Array.from({ length: WRITERS }, () => write());
  opening.defer(stopWriting);
  const opened = opening.move();
  return {
    server,
    database,
    payer,
    chat,
    recover,
    settled,
    check,
    acknowledged: () => acknowledged.size,
    /** Whether an answer is on its way. */
    isAnswering: () =>
      provider.calls.some(({ outputTokens, isWhole }) => outputTokens > 0 && !isWhole),
    [Symbol.asyncDispose]: () => opened.disposeAsync(),
  };

  /** Reserves and settles without pause, and notes every transfer that it was told is done. */
  async function write(): Promise<void> {
    const own = createLedger(writing, clock, { batchMax: 4 });
    const { budget, project, spend } = payer;
    while (!writers.isOver) {
      const id = ids.next("transfer");
      const settleId = ids.next("transfer");
      try {
        const path = { budget, within: [project], spend };
        const asked = { id, ...path, amountNanos: 2n, timeoutMs: 3_600_000 };
        const reserved = await own.reserve(asked);
        if (reserved.outcome === "reserved") acknowledged.add(id);
        const settled = await own.settle({ id: settleId, pendingId: id, amountNanos: 1n });
        if (settled.outcome === "settled") acknowledged.add(settleId);
      } catch {
        await sleep(20);
      }
      await sleep(2);
    }
  }

  async function stopWriting(): Promise<void> {
    writers.isOver = true;
    await Promise.all(running);
  }

  async function chat(tokens: number, isStream = false): Promise<Answer> {
    const { statusCode, headers, body } = await request(`${url}/v1/chat/completions`, {
      method: "POST",
      headers: { authorization: `Bearer ${payer.secret}`, "content-type": "application/json" },
      body: JSON.stringify({
        model: "normal",
        messages: [{ role: "user", content: "hello" }],
        max_tokens: tokens,
        stream: isStream,
      }),
    });
    const retryAfter = headers["retry-after"]?.toString();
    return { status: statusCode, retryAfter, text: await body.text() };
  }

  /** The server is back: calls are served again, soon. Returns how long that took. */
  async function recover(): Promise<number> {
    const before = performance.now();
    await eventually(
      () => chat(8),
      ({ status }) => status === 200,
      RECOVER_MS,
    );
    return Math.round(performance.now() - before);
  }

  /** Waits until each call that the provider answered in full has its row, at its cost. */
  async function settled(): Promise<void> {
    const whole = () => provider.calls.filter(({ isWhole }) => isWhole).length;
    await eventually(
      async () => {
        const [row] = await rows<{ count: number }>(
          database.sql,
          sql`select count(*)::int from call where not is_estimated and status = 200`,
        );
        return row?.count;
      },
      (count) => count === whole(),
      15_000,
    );
  }

  /** Nothing that was acknowledged is lost, and the books are right. */
  async function check(): Promise<void> {
    await stopWriting();
    const found = await rows<{ id: TransferId }>(database.sql, sql`select id from transfer`);
    const there = new Set(found.map(({ id }) => id));
    const lost = [...acknowledged].filter((id) => !there.has(id));
    assert.deepEqual(lost, [], `${lost.length} of ${acknowledged.size} acknowledged are lost`);
    assert.ok(acknowledged.size > 0);
    await auditLedger(database);
  }
}
