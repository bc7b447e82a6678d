/**
 * What every process that grants models or forwards calls knows of engines: where they are, whether
 * they take calls, and what their tokens cost by their plans. Read again whenever the database says
 * that it changed, and every few seconds.
 */
import { hostname } from "node:os";
import { sql } from "drizzle-orm";
import { type PriceEntry, priceEntry } from "../../models/prices.ts";
import type { EngineState } from "../contract/models.ts";
import type { GpuTerms } from "../contract/prices.ts";
import type { Database, Sql } from "../db/database.ts";
import { readTime, rows } from "../db/rows.ts";
import { type Clock, rfc3339 } from "../runtime/clock.ts";
import type { TrialId } from "../runtime/ids.ts";
import type { Log } from "../runtime/log.ts";
import { modelPlan, providerName, readServers, SERVED_CHANNEL, type ServerRow } from "./rows.ts";
import type { EngineAway, ServedEngine } from "./serving.ts";

export interface Served {
  engines: readonly ServedEngine[];
  prices: readonly PriceEntry[];
}

export interface ServedModels extends AsyncDisposable {
  refresh(): Promise<void>;
  /**
   * Says that the trial's call waits for the engine, and resolves when it takes calls, or will not
   * soon, or the signal aborts. Bounded; never rejects.
   */
  until(provider: string, trialId: TrialId, signal?: AbortSignal): Promise<void>;
}

export interface ServedModelsOptions {
  /** Between looks without being told of a change. */
  periodMs: number;
  /** What a call waits at most for an engine that is coming. */
  waitMaxMs: number;
  /** Who we are: the loopback of another machine is not ours. Absent: it is. */
  machine?: string;
}

export const SERVED_DEFAULTS: ServedModelsOptions = {
  periodMs: 5_000,
  waitMaxMs: 120_000,
  machine: hostname(),
};

const RAY_WIRES = ["openai.chat", "openai.completions", "openai.embeddings"] as const;
/** Who waits is written down at most so often. */
const ASKED_EVERY_MS = 5_000;
const RETRY_LATER_MS = 30_000;
const RETRY_SOON_MS = 5_000;

/** @param learn takes what was read, at once and after each change. */
export async function openServedModels(
  { db, clock, log }: { db: Database; clock: Clock; log: Log },
  learn: (served: Served) => void,
  options: ServedModelsOptions = SERVED_DEFAULTS,
): Promise<ServedModels> {
  let engines: readonly ServedEngine[] = [];
  const waiting = new Set<() => void>();
  const askedAt = new Map<string, number>();
  let reading: Promise<void> | null = null;
  let isStale = false;
  await refresh();
  const look = () => {
    refresh().catch((error: unknown) => log.warn({ err: error }, "served models not read"));
  };
  const listening = await db.listen(SERVED_CHANNEL, look, look);
  const timer = setInterval(look, options.periodMs);
  return {
    refresh,
    until,
    [Symbol.asyncDispose]: async () => {
      clearInterval(timer);
      for (const wake of [...waiting]) wake();
      await listening[Symbol.asyncDispose]();
      await reading?.catch(() => {});
    },
  };

  /** One at a time; what changed during it is read after it. */
  function refresh(): Promise<void> {
    if (reading !== null) {
      isStale = true;
      return reading;
    }
    reading = read().finally(() => {
      reading = null;
    });
    return reading;
  }

  async function read(): Promise<void> {
    do {
      isStale = false;
      const served = await readServed(db.sql, options.machine);
      engines = served.engines;
      learn(served);
    } while (isStale);
    for (const wake of [...waiting]) wake();
  }

  async function until(provider: string, trialId: TrialId, signal?: AbortSignal): Promise<void> {
    const endMs = clock.now() + options.waitMaxMs;
    for (;;) {
      const away = engines.find((engine) => engine.provider === provider)?.away ?? null;
      const leftMs = endMs - clock.now();
      if (away === null || !away.isComing || leftMs <= 0 || signal?.aborted) return;
      await ask(provider, trialId).catch((error: unknown) => {
        askedAt.delete(provider);
        log.warn({ err: error, provider }, "not written that a call waits for an engine");
      });
      if (signal?.aborted) return;
      await new Promise<void>((resolve) => {
        const timer = setTimeout(done, Math.min(leftMs, ASKED_EVERY_MS));
        waiting.add(done);
        signal?.addEventListener("abort", done);
        function done(): void {
          clearTimeout(timer);
          signal?.removeEventListener("abort", done);
          waiting.delete(done);
          resolve();
        }
      });
    }
  }

  async function ask(provider: string, trialId: TrialId): Promise<void> {
    const nowMs = clock.now();
    const last = askedAt.get(provider);
    if (last !== undefined && nowMs - last < ASKED_EVERY_MS && nowMs >= last) return;
    askedAt.set(provider, nowMs);
    const engine = engines.find((each) => each.provider === provider);
    if (engine === undefined) return;
    const at = rfc3339(nowMs);
    await db.sql.execute(sql`update model_server
      set asked_at = coalesce(asked_at, ${at}::timestamptz), asked_last_at = ${at}::timestamptz,
        asked_by = case when asked_at is null then ${trialId} else asked_by end
      where pair = ${engine.pair} and side = ${engine.side} and state <> 'ready'`);
  }
}

type PriceRow = {
  model: string;
  currency: string;
  effective_from: string;
  terms: GpuTerms;
  source: string;
};

async function readServed(db: Pick<Sql, "execute">, machine?: string): Promise<Served> {
  const [servers, prices] = await Promise.all([
    readServers(db),
    rows<PriceRow>(
      db,
      sql`select model, currency, effective_from, terms, source from own_model_price
        order by effective_from desc, model, currency`,
    ),
  ]);
  return { engines: servers.map((row) => engineOf(row, machine)), prices: prices.map(entryOf) };
}

function engineOf(row: ServerRow, machine: string | undefined): ServedEngine {
  const { pair, side, model, base_url: baseUrl } = row;
  const { context_tokens: contextTokens } = modelPlan(row);
  const away = outOfReach(row, machine) ?? awayOf(row);
  // An engine has no path but behind Ray's ingress, which has no /v1/messages and no /v1/responses.
  const isOnRay = new URL(baseUrl).pathname !== "/";
  const wires = isOnRay ? RAY_WIRES : null;
  return { pair, side, model, provider: providerName(row), baseUrl, wires, contextTokens, away };
}

/** What listens on another machine's loopback: at that address here is nothing, or another's. */
function outOfReach(
  { pair, model, machine, base_url: baseUrl }: ServerRow,
  here: string | undefined,
): EngineAway | null {
  if (here === undefined || machine === here || !isLoopback(new URL(baseUrl).hostname)) return null;
  const detail =
    `${model} of ${pair} listens on ${machine} for that machine alone; set AUTOCODE_ENGINES_HOST ` +
    "there to an address that this one reaches, and bring the pair up again";
  return { detail, retryAfterMs: RETRY_LATER_MS, isComing: false };
}

function isLoopback(host: string): boolean {
  return host === "localhost" || host === "[::1]" || /^127\./.test(host);
}

const COMING: Readonly<Record<Exclude<EngineState, "ready" | "failed">, string>> = {
  starting: "is being loaded",
  sleeping: "is asleep, and is being woken",
  draining: "gives the GPUs to another model for a while",
};

function awayOf({ pair, model, state, is_wanted: isWanted }: ServerRow): EngineAway | null {
  if (!isWanted) {
    const detail = `${model} is being brought down; autocode model up ${pair} serves it again`;
    return { detail, retryAfterMs: RETRY_LATER_MS, isComing: false };
  }
  if (state === "ready") return null;
  if (state === "failed") {
    const detail = `The engine of ${model} has failed; autocode model logs ${pair} says why`;
    return { detail, retryAfterMs: RETRY_LATER_MS, isComing: false };
  }
  const detail = `${model} ${COMING[state]}; try again then (autocode model ls shows it)`;
  return { detail, retryAfterMs: RETRY_SOON_MS, isComing: true };
}

function entryOf(row: PriceRow): PriceEntry {
  const effectiveFromMs = readTime(row.effective_from);
  const { model, currency, source } = row;
  const head = {
    model,
    currency,
    effectiveFrom: rfc3339(effectiveFromMs),
    effectiveFromMs,
    source,
  };
  return priceEntry(head, { gpu: row.terms }, (path, message) => {
    return new Error(`own_model_price of ${model}: ${path.join(".")} ${message}`);
  });
}
