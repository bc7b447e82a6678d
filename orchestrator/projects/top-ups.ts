/**
 * Money that comes again and again (`budget.top_ups`): each date of a schedule funds the project
 * once, from midnight in the project's time zone on. Whoever does it, however often and however
 * late: the transfer's id is the project's, the schedule's and the date's, so that restarts,
 * replicas and clocks that are set back fund nothing twice, and what was missed is caught up.
 */
import { sql } from "drizzle-orm";
import type { NextTopUp } from "../contract/budgets.ts";
import type { ProjectFile, TopUpEntry } from "../contract/projects.ts";
import type { Database, Sql } from "../db/database.ts";
import { rows } from "../db/rows.ts";
import type { Ledger } from "../ledger/ledger.ts";
import { formatNanos, type Nanos, parseUnits } from "../money.ts";
import type { BackgroundTask } from "../runtime/background.ts";
import { type Clock, type EpochMs, localDate, rfc3339 } from "../runtime/clock.ts";
import { type AccountId, derivedId, type ProjectId, type TransferId } from "../runtime/ids.ts";
import type { Log } from "../runtime/log.ts";
import { recordEvent } from "./budget-events.ts";
import { datesUntil, type LocalDate, nextDate, startOfDate } from "./calendar.ts";

/** A project as far as its top-ups go. */
export type Replenished = {
  id: ProjectId;
  name: string;
  currency: string;
  time_zone: string;
  config: ProjectFile;
};

export interface TopUpsDependencies {
  db: Pick<Database, "sql">;
  /** The ledger inside a transaction. */
  ledgerIn: (transaction: { sql: Sql }) => Pick<Ledger, "fund">;
  clock: Clock;
  log: Log;
}

export interface TopUps {
  /** Funds what is due of one project. Returns how many transfers that made. */
  replenish(project: Replenished): Promise<number>;
  /** Does it for every project. */
  task: BackgroundTask;
}

interface Due {
  id: TransferId;
  date: LocalDate;
  every: TopUpEntry["every"];
  amountNanos: Nanos;
}

const PERIOD_MS = 15_000;

export function createTopUps({ db, ledgerIn, clock, log }: TopUpsDependencies): TopUps {
  return { replenish, task: { name: "replenish_budgets", periodMs: PERIOD_MS, activate } };

  async function activate(): Promise<{ funded: number }> {
    const projects = await rows<Replenished>(
      db.sql,
      sql`select id, name, currency, time_zone, config from project
        where config #> '{budget,top_ups}' is not null order by id`,
    );
    let funded = 0;
    // One after the other: all are funded from one account.
    for (const project of projects) funded += await replenish(project);
    return { funded };
  }

  async function replenish(project: Replenished): Promise<number> {
    const due = await unfunded(duePeriods(project, clock.now()));
    if (due.length === 0) return 0;
    const { from, to } = await accountsOf(project);
    let funded = 0;
    for (const { id, date, every, amountNanos } of due) {
      const transfer = { id, from, to, amountNanos, reason: "top_up", note: `${every} ${date}` };
      const isNew = await db.sql.transaction(async (transaction) => {
        // One at a time: of two that insert one id at once, the second would be undone.
        await transaction.execute(sql`select pg_advisory_xact_lock(hashtextextended(${id}, 0))`);
        const { outcome } = await ledgerIn({ sql: transaction }).fund(transfer);
        if (outcome !== "funded") return false;
        await recordEvent(transaction, { account: to, kind: "replenished", now: clock.now() });
        return true;
      });
      if (!isNew) continue;
      funded++;
      const amount = formatNanos(amountNanos, project.currency);
      log.info({ project: project.name, date, every, amount }, "budget topped up");
    }
    return funded;
  }

  async function unfunded(due: readonly Due[]): Promise<Due[]> {
    if (due.length === 0) return [];
    const found = await rows<{ id: TransferId }>(
      db.sql,
      sql`select id from transfer where id = any(${sql.param(due.map(({ id }) => id))})`,
    );
    const done = new Set(found.map(({ id }) => id));
    return due.filter(({ id }) => !done.has(id));
  }

  async function accountsOf(project: Replenished): Promise<{ from: AccountId; to: AccountId }> {
    const found = await rows<{ id: AccountId; kind: string }>(
      db.sql,
      sql`select id, kind from account
        where (kind = 'funding' and owner = ${`organisation/${project.currency}`})
          or (kind = 'budget' and owner = ${`project/${project.id}`})`,
    );
    const idOf = (kind: string) => found.find((account) => account.kind === kind)?.id;
    const [from, to] = [idOf("funding"), idOf("budget")];
    if (from === undefined || to === undefined) throw new Error("a project without its accounts");
    return { from, to };
  }
}

/** Every date up to now, of every schedule, oldest first; pure. */
export function duePeriods(project: Replenished, now: EpochMs): Due[] {
  const today = localDate(now, project.time_zone);
  return (project.config.budget.top_ups ?? [])
    .flatMap((entry) =>
      datesUntil(entry, today).map((date) => ({
        id: derivedId("transfer", "top_up", project.id, entry.every, date),
        date,
        every: entry.every,
        amountNanos: amountOf(entry),
      })),
    )
    .filter(({ amountNanos }) => amountNanos > 0n)
    .toSorted((a, b) => a.date.localeCompare(b.date));
}

/** The top-up that comes next, or null; pure. */
export function nextTopUp(project: Replenished, now: EpochMs): NextTopUp | null {
  const inZone = (atMs: EpochMs) => localDate(atMs, project.time_zone);
  const [next] = (project.config.budget.top_ups ?? [])
    .map((entry) => ({ entry, date: nextDate(entry, inZone(now)) }))
    .toSorted((a, b) => a.date.localeCompare(b.date));
  if (next === undefined) return null;
  const { entry, date } = next;
  const at = rfc3339(startOfDate(date, inZone));
  return { at, date, every: entry.every, amount_nanos: String(amountOf(entry)) };
}

function amountOf({ amount }: TopUpEntry): Nanos {
  const amountNanos = parseUnits(amount);
  if (amountNanos === null) throw new Error("a top-up that the project file's check let pass");
  return amountNanos;
}
