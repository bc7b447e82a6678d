/**
 * Goal (R4): wherever gateways and the database are killed, a small budget that hundreds of callers
 * share is never overspent, what a provider counts is what the ledger charged (but for what expiry
 * posted in full, and says so), and nothing stays reserved past its time.
 *
 * Method: four gateways, a provider with a count of its own and PostgreSQL, a process each, with
 * disk flushes on; 256 callers go on until the budget refuses them. The gateways kill themselves
 * with SIGKILL at points that are drawn (`points.ts`); the database is killed meanwhile. The full
 * form: KILLS=200 and SERVER_KILLS=20; the draw: SEED=n.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { Database } from "../../orchestrator/db/database.ts";
import { openPostgresDatabase } from "../../orchestrator/db/postgres.ts";
import type { AccountBalance } from "../../orchestrator/ledger/ledger.ts";
import { createLedger } from "../../orchestrator/ledger/postgres.ts";
import { systemClock } from "../../orchestrator/runtime/clock.ts";
import { createLog } from "../../orchestrator/runtime/log.ts";
import { type Random, seededRandom } from "../../orchestrator/runtime/random.ts";
import { openTestFolder } from "../support/embedded.ts";
import { type CallersOptions, type CallerTally, newCallerTally, runCallers } from "./callers.ts";
import { startFleet, startProvider } from "./fleet.ts";
import { openPayer, type Payer } from "./payer.ts";
import { KILL_POINTS, TIMES } from "./points.ts";
import { type ChaosServer, openChaosServer } from "./postgres.ts";
import { reckon } from "./reckoning.ts";

const SEED = Number(process.env["SEED"] ?? 1);
const KILLS = Number(process.env["KILLS"] ?? KILL_POINTS.length);
const SERVER_KILLS = Number(process.env["SERVER_KILLS"] ?? 2);
const GATEWAYS = 4;
const CALLERS = 256;
/** Less than what all callers at once reserve. */
const FUNDED_NANOS = 500_000n;
/** What two dozen calls reserve: used up to the last call that fits. */
const SMALL_NANOS = 60_000n;
const PACE_MS = 2;
/** Past its time, the reaper's period, and what a busy machine adds. */
const RESOLVED_MS = TIMES.callMs + TIMES.graceMs + TIMES.reapMs + 5_000;

test(`gateways die at every point of a call, ${KILLS} kills, SEED=${SEED}`, async (t) => {
  await using world = await openWorld();
  const { random, provider, database } = world;
  const setup = { databaseUrl: world.server.url, providerUrl: provider.url, connectionsMax: 6 };
  await using fleet = await startFleet({
    ...setup,
    gateways: GATEWAYS,
    random,
    points: KILL_POINTS,
    nthMax: 60,
  });
  const dead = () => Object.values(fleet.deaths).reduce((sum, count) => sum + count, 0);
  const tally = newCallerTally();
  const payers: Payer[] = [];
  const callers = { count: CALLERS, url: fleet.url, random };
  while (dead() < KILLS) {
    const payer = await openPayer(database, FUNDED_NANOS);
    payers.push(payer);
    const { secret } = payer;
    await runCallers({ ...callers, secret, goesOn: () => dead() < KILLS }, tally);
  }
  await fleet.spare();
  await useUp(world, payers, callers, tally);
  const reckoning = await settleUp(world, payers);
  t.diagnostic(`${JSON.stringify(fleet.deaths)} ${JSON.stringify(tally)} ${text(reckoning)}`);
  for (const [point, count] of Object.entries(fleet.deaths)) {
    if (KILLS >= KILL_POINTS.length) assert.ok(count > 0, `nobody died at ${point}`);
  }
  assert.ok(tally.answered > 100 && tally.refused >= CALLERS && reckoning.lostNanos > 0n);
});

test(`the database dies ${SERVER_KILLS} times under them, SEED=${SEED}`, async (t) => {
  await using world = await openWorld();
  const { random, provider, database, server } = world;
  const setup = { databaseUrl: server.url, providerUrl: provider.url, connectionsMax: 6 };
  const fleetOptions = { ...setup, gateways: GATEWAYS, random, nthMax: 200 };
  await using fleet = await startFleet({ ...fleetOptions, points: ["reserve_after"] });
  const tally = newCallerTally();
  let retryAfter: string | undefined = "";
  let isOver = false;
  const payers: Payer[] = [];
  const killing = killAgainAndAgain(server, random, SERVER_KILLS).finally(() => {
    isOver = true;
  });
  const onUnavailable = (told: string | undefined) => {
    retryAfter = told;
  };
  const callers = { count: CALLERS, url: fleet.url, random, onUnavailable };
  while (!isOver) {
    // The database may be dead at the moment.
    const payer = await openPayer(database, FUNDED_NANOS).catch(() => sleep(50, null));
    if (payer === null) continue;
    payers.push(payer);
    await runCallers({ ...callers, secret: payer.secret, goesOn: () => !isOver }, tally);
  }
  await killing;
  await fleet.spare();
  await useUp(world, payers, callers, tally);
  const reckoning = await settleUp(world, payers);
  t.diagnostic(`${JSON.stringify(tally)} ${text(reckoning)}`);
  assert.ok(tally.answered > 100 && tally.unavailable > 0, JSON.stringify(tally));
  assert.match(retryAfter ?? "none", /^[1-9]\d*$/, "a 503 says when to come back");
});

interface World extends AsyncDisposable {
  random: Random;
  server: ChaosServer;
  database: Database;
  provider: Awaited<ReturnType<typeof startProvider>>;
}

async function openWorld(): Promise<World> {
  await using opening = new AsyncDisposableStack();
  const folder = opening.use(await openTestFolder());
  const server = opening.use(await openChaosServer(folder.path));
  const provider = opening.use(await startProvider(PACE_MS));
  const log = createLog("silent");
  const database = opening.use(await openPostgresDatabase({ url: server.url, log }));
  const opened = opening.move();
  const random = seededRandom(SEED);
  return {
    random,
    server,
    database,
    provider,
    [Symbol.asyncDispose]: () => opened.disposeAsync(),
  };
}

/** A budget that everybody wants the rest of, until the last of them is refused. */
async function useUp(
  { database }: World,
  payers: Payer[],
  callers: Omit<CallersOptions, "secret" | "goesOn">,
  tally: CallerTally,
): Promise<void> {
  const payer = await openPayer(database, SMALL_NANOS);
  payers.push(payer);
  await runCallers({ ...callers, secret: payer.secret, goesOn: () => true }, tally);
}

async function killAgainAndAgain(server: ChaosServer, random: Random, times: number) {
  for (let kill = 0; kill < times; kill++) {
    await sleep(800 + random.below(700));
    await server.kill();
    await sleep(random.below(500));
    await server.start();
  }
  await sleep(500);
}

/** Waits for what is still reserved, for as long as it may last, and reckons. */
async function settleUp({ database, provider }: World, payers: readonly Payer[]) {
  const ledger = createLedger(database, systemClock);
  const giveUpAt = performance.now() + RESOLVED_MS;
  for (const { budget, project } of payers) {
    for (const id of [budget, project]) {
      let balance: AccountBalance | null = await ledger.balance(id);
      while (balance?.reservedNanos !== 0n && performance.now() < giveUpAt) {
        await sleep(50);
        balance = await ledger.balance(id);
      }
      assert.ok(balance !== null);
      assert.equal(balance.reservedNanos, 0n, "reserved past its time");
      assert.ok(balance.spentNanos <= balance.fundedNanos && balance.availableNanos >= 0n);
    }
  }
  const { calls } = await provider.count();
  return reckon(database, calls);
}

function text(reckoning: object): string {
  return JSON.stringify(reckoning, (_, value) =>
    typeof value === "bigint" ? String(value) : value,
  );
}
