/**
 * The state of all budgets and of the ledger as Prometheus text: sums by scope and unit, never an
 * id in a label. What a single gateway did (refusals, overhead) it tells itself.
 */
import { sql } from "drizzle-orm";
import { Counter, Gauge, Registry } from "prom-client";
import type { Database } from "../db/database.ts";
import { readTime, rows } from "../db/rows.ts";
import { TOKEN_UNIT } from "../money.ts";
import { type Clock, rfc3339 } from "../runtime/clock.ts";

type Sums = {
  scope: string;
  currency: string;
  funded: string;
  reserved: string;
  settled: string;
  /** Null where none of them is limited. */
  available: string | null;
};

/** An expired reservation is resolved within seconds; this is more than any of them is late. */
const EXPIRY_SLACK_MS = 3_600_000;
const FIGURES = ["funded", "reserved", "settled", "available"] as const;

export function createBudgetMetrics(
  db: Pick<Database, "sql">,
  clock: Clock,
): { text(): Promise<string> } {
  const register = new Registry();
  const registers = [register];
  const named = <Names extends readonly string[]>(name: string, help: string, labelNames: Names) =>
    new Gauge({ name: `autocode_${name}`, help, labelNames, registers });
  const money = FIGURES.map((figure) =>
    named(`budget_${figure}_nanos`, HELP[figure], ["scope", "currency"] as const),
  );
  const tokens = FIGURES.map((figure) =>
    named(`budget_${figure}_tokens`, HELP[figure], ["scope"] as const),
  );
  const marks = named("budget_marks", "Marks that spending has passed", ["scope", "percent"]);
  const open = named("ledger_reservations_open", "Reservations that nothing has resolved yet", []);
  const age = named("ledger_reservation_age_max_ms", "Age of the oldest open reservation", []);
  const lag = named("journal_lag_transfers", "Transfers that the journal has not sealed yet", []);
  const expired = new Counter({
    name: "autocode_ledger_reservations_expired_total",
    help: "Reservations that expired since this process started",
    registers,
  });
  /** Up to where expired reservations are counted. */
  let countedSeq: string | null = null;
  // One collection at a time: two that add the same expirations would count them twice.
  let turn: Promise<unknown> = Promise.resolve();
  return { text };

  async function text(): Promise<string> {
    const mine = turn.then(collect);
    turn = mine.catch(() => {});
    await mine;
    return register.metrics();
  }

  async function collect(): Promise<void> {
    await Promise.all([collectSums(), collectMarks(), collectOpen(), collectMoved()]);
  }

  async function collectSums(): Promise<void> {
    const found = await readSums(db, rfc3339(clock.now()));
    for (const gauge of [...money, ...tokens]) gauge.reset();
    for (const { scope, currency, ...sums } of found) {
      for (const [index, figure] of FIGURES.entries()) {
        if (sums[figure] === null) continue;
        const value = Number(sums[figure]);
        if (currency === TOKEN_UNIT) tokens[index]?.set({ scope }, value);
        else money[index]?.set({ scope, currency }, value);
      }
    }
  }

  async function collectMarks(): Promise<void> {
    const found = await rows<{ scope: string; percent: number; count: number }>(
      db.sql,
      sql`select ${SCOPE} as scope, percent, count(*)::int as count
        from budget_event join account on account.id = account_id
        where budget_event.kind = 'threshold' group by 1, 2`,
    );
    marks.reset();
    for (const { scope, percent, count } of found) marks.set({ scope, percent }, count);
  }

  async function collectOpen(): Promise<void> {
    const now = clock.now();
    const [found] = await rows<{ count: number; oldest: string | null }>(
      db.sql,
      sql`select count(*)::int as count, min(created_at) as oldest from transfer as pending
        where kind = 'pending' and expires_at > ${rfc3339(now - EXPIRY_SLACK_MS)}
          and not exists (select from transfer where pending_id = pending.id)`,
    );
    open.set(found?.count ?? 0);
    const oldest = found?.oldest ?? null;
    age.set(oldest === null ? 0 : Math.max(0, now - readTime(oldest)));
  }

  async function collectMoved(): Promise<void> {
    const [found] = await rows<{ seq: string; unsealed: string; expired: string }>(
      db.sql,
      sql`select
        (select coalesce(max(seq), 0) from transfer)::text as seq,
        (select count(*) from transfer where seq > coalesce((
          select transfer.seq from journal_entry join transfer on transfer.id = transfer_id
          order by position desc limit 1), 0))::text as unsealed,
        (select count(*) from transfer
          where seq > ${countedSeq}::bigint and kind <> 'direct' and reason = 'expired'
        )::text as expired`,
    );
    if (found === undefined) return;
    lag.set(Number(found.unsealed));
    expired.inc(Number(found.expired));
    countedSeq = found.seq;
  }
}

const HELP = {
  funded: "What budgets were given and not taken back",
  reserved: "What running calls may cost",
  settled: "What was spent and not given back",
  available: "What is left of limited budgets: of today's days, and of trials that have not ended",
};

const SCOPE = sql`split_part(regexp_replace(owner, '^tokens/', ''), '/', 1)`;

async function readSums(db: Pick<Database, "sql">, now: string): Promise<Sums[]> {
  return rows<Sums>(
    db.sql,
    sql`with budget as (
        select ${SCOPE} as scope, account.*,
          split_part(regexp_replace(owner, '^tokens/', ''), '/', 2) as key,
          right(owner, 10) as date
        from account where kind = 'budget'
      )
      select scope, budget.currency,
        sum(credits_posted_nanos - reversed_nanos)::text as funded,
        sum(debits_pending_nanos)::text as reserved,
        sum(debits_posted_nanos - reversed_nanos)::text as settled,
        case when bool_or(must_not_exceed) then coalesce(
          sum(credits_posted_nanos - debits_posted_nanos - debits_pending_nanos) filter (
            where must_not_exceed and case scope
              when 'day' then date
                = to_char(${now}::timestamptz at time zone project.time_zone, 'YYYY-MM-DD')
              when 'trial' then trial.ended_at is null
              else true
            end), 0)
        end::text as available
      from budget
      left join trial on scope = 'trial' and trial.id = key
      left join project on scope = 'day' and project.id = key
      group by 1, 2 order by 1, 2`,
  );
}
