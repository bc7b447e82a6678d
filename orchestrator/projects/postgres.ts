/** Projects in Postgres: the project file is checked whole before anything is made of it. */
import { resolve } from "node:path";
import { sql } from "drizzle-orm";
import type { AgentFacts } from "../contract/agents.ts";
import type { NewProject, Project, ProjectFile } from "../contract/projects.ts";
import type { Database, Sql } from "../db/database.ts";
import { readTime, rows } from "../db/rows.ts";
import type { Ledger } from "../ledger/ledger.ts";
import { type Nanos, parseUnits } from "../money.ts";
import { Problem } from "../problem.ts";
import { type Clock, type EpochMs, localDate, rfc3339 } from "../runtime/clock.ts";
import {
  type AccountId,
  derivedId,
  type Ids,
  type ProjectId,
  type TransferId,
  type TrialId,
} from "../runtime/ids.ts";
import { readTaskFolder } from "../tasks/task-folder.ts";
import { type Tasks, toTask } from "../tasks/tasks.ts";
import type { Pairs } from "../trials/pairs.ts";
import { budgetChangeFault } from "./budget-rules.ts";
import { addDays, startOfDate } from "./calendar.ts";
import type { Day, Days } from "./day.ts";
import { parseProjectFile } from "./project-file.ts";
import { type Projects, toBalance } from "./projects.ts";
import { grantTokens, openTokenAccounts } from "./tokens.ts";
import { nextTopUp } from "./top-ups.ts";

export type ProjectRow = {
  id: ProjectId;
  name: string;
  currency: string;
  time_zone: string;
  config: ProjectFile;
  daily_allowance_nanos: string | null;
  created_at: string;
};

export interface ProjectAccounts {
  funding: AccountId;
  organisation: AccountId;
  budget: AccountId;
  spend: AccountId;
}

export interface ProjectsDependencies {
  db: Database;
  ledger: Ledger;
  /** The ledger inside a transaction. */
  ledgerIn: (transaction: { sql: Sql }) => Pick<Ledger, "fund">;
  tasks: Tasks;
  days: Days;
  pairs: Pairs;
  agents: readonly AgentFacts[];
  clock: Clock;
  ids: Ids;
}

export type PostgresProjects = ReturnType<typeof createProjects>;

export function createProjects(dependencies: ProjectsDependencies) {
  const { db, days, tasks, clock, ids } = dependencies;
  const projects: Projects = { apply, list, get, tasks: listTasks, importTask };
  return {
    ...projects,
    find,
    findById,
    accounts,
    calendarAt,
    /** Opens the budgets of the day that it is now, where the project has such. Idempotent. */
    openToday: async (row: ProjectRow) => {
      const day = dayOf(row);
      await Promise.all([days.dayAccount(day), days.tokenDayAccount(day)]);
    },
    /** A new key's token budget; null where the project rations none. */
    tokenGrant: (row: ProjectRow, trialId: TrialId) => grantTokens(dependencies, row, trialId),
  };

  async function apply({ file_text, file_name, folder }: NewProject): Promise<Project> {
    const file = parseProjectFile(file_text, file_name);
    const known = await findProject(db, file.project);
    await check(dependencies, file, file_name, folder, known);
    const id = ids.next("project");
    const row = known ?? (await insert(id, file));
    try {
      for (const task of file.tasks ?? []) await tasks.importFolder(row.id, resolve(folder, task));
    } catch (error) {
      // Another call may have made the project meanwhile: then it is not ours to take back.
      if (row.id === id) await forget(id);
      throw error;
    }
    await openFirstDay(dependencies, known, file);
    await db.sql.transaction(async (transaction) => {
      // One at a time: two that raise the total at once would both find the old one.
      const [now] = await rows<ProjectRow>(
        transaction,
        sql`select * from project where id = ${row.id} for no key update`,
      );
      if (known !== null || row.id !== id) {
        refuseBudgetChange(file, file_name, (now ?? row).config, clock.now());
      }
      await transaction.execute(sql`
        update project set config = ${JSON.stringify(file)}::jsonb,
          time_zone = ${file.time_zone ?? "UTC"}, updated_at = ${rfc3339(clock.now())},
          daily_allowance_nanos = ${allowanceText(file)}
        where id = ${row.id}`);
    });
    await fundTotal(dependencies, row, units(file.budget.total));
    await fundTokens(dependencies, row, BigInt(file.budget.tokens?.total ?? 0));
    return get(file.project);
  }

  async function insert(id: ProjectId, file: ProjectFile): Promise<ProjectRow> {
    const at = rfc3339(clock.now());
    await db.sql.execute(sql`
      insert into project (id, name, currency, time_zone, config, daily_allowance_nanos,
        created_at, updated_at)
      values (${id}, ${file.project}, ${file.currency},
        ${file.time_zone ?? "UTC"}, ${JSON.stringify(file)}::jsonb, ${allowanceText(file)},
        ${at}, ${at})
      on conflict (name) do nothing`);
    return find(file.project);
  }

  /** Takes back a project that its first `apply` could not finish. */
  async function forget(id: ProjectId): Promise<void> {
    await tasks.forget(id);
    await db.sql.execute(sql`delete from project where id = ${id}`);
  }

  async function list(): Promise<Project[]> {
    const all = await rows<ProjectRow>(db.sql, sql`select * from project order by name`);
    return Promise.all(all.map((row) => describe(dependencies, row)));
  }

  async function get(name: string): Promise<Project> {
    return describe(dependencies, await find(name));
  }

  async function find(name: string): Promise<ProjectRow> {
    const row = await findProject(db, name);
    if (row === null) {
      const detail = `There is no project "${name}"; make it with: autocode project apply`;
      throw new Problem("not_found", detail);
    }
    return row;
  }

  async function findById(id: ProjectId): Promise<ProjectRow> {
    return readProject(db.sql, id);
  }

  async function accounts(row: ProjectRow): Promise<ProjectAccounts> {
    return openAccounts(dependencies, row);
  }

  /** The project's date at `atMs`, when that day ends, and the top-up that comes next. */
  function calendarAt(row: ProjectRow, atMs: EpochMs) {
    const inZone = (at: EpochMs) => localDate(at, row.time_zone);
    const date = inZone(atMs);
    const dayEndsAtMs = startOfDate(addDays(date, 1), inZone);
    return { date, dayEndsAtMs, nextTopUp: nextTopUp(row, atMs) };
  }

  async function listTasks(name: string) {
    const row = await find(name);
    return (await tasks.list(row.id)).map((task) => toTask(task, name));
  }

  async function importTask(name: string, folder: string) {
    const row = await find(name);
    return toTask((await tasks.importFolder(row.id, folder)).row, name);
  }
}

/** Everything that can be wrong with a project file, before anything is made of it. */
async function check(
  { agents, pairs, clock }: ProjectsDependencies,
  file: ProjectFile,
  fileName: string,
  folder: string,
  known: ProjectRow | null,
): Promise<void> {
  const names = agents.map(({ name }) => name);
  for (const agent of file.agents ?? []) {
    if (names.includes(agent)) continue;
    const detail = `${fileName}: agents: unknown agent "${agent}"; known: ${names.join(", ")}`;
    throw new Problem("invalid_request", detail);
  }
  const policy = typeof file.egress === "object" ? file.egress : {};
  for (const agent of Object.keys(policy.agents ?? {})) {
    if (names.includes(agent)) continue;
    const detail = `unknown agent "${agent}"; known: ${names.join(", ")}`;
    throw new Problem("invalid_request", `${fileName}: egress.agents: ${detail}`);
  }
  pairs.check(file);
  const known_pairs = pairs.list(file).map(({ name }) => name);
  for (const pair of file.pairs ?? []) {
    if (known_pairs.includes(pair)) continue;
    const detail = `${fileName}: pairs: unknown pair "${pair}"; known: ${known_pairs.join(", ")}`;
    throw new Problem("invalid_request", detail);
  }
  for (const task of file.tasks ?? []) await readTaskFolder(resolve(folder, task));
  if (known !== null && known.currency !== file.currency) {
    const detail = `${fileName}: currency: the project's ledger is in ${known.currency}`;
    throw new Problem("invalid_request", `${detail}; it cannot change, make another project`);
  }
  refuseBudgetChange(file, fileName, known?.config ?? null, clock.now());
}

function refuseBudgetChange(
  file: ProjectFile,
  fileName: string,
  known: ProjectFile | null,
  now: EpochMs,
): void {
  const fault = budgetChangeFault(file, known, now);
  if (fault === null) return;
  const field = ["budget", ...fault.path].join(".");
  throw new Problem("invalid_request", `${fileName}: ${field}: ${fault.message}`);
}

/** An allowance that a project did not have yesterday starts without a carry-over. */
async function openFirstDay(
  { days }: ProjectsDependencies,
  known: ProjectRow | null,
  file: ProjectFile,
): Promise<void> {
  const allowance = allowanceText(file);
  if (known === null || known.daily_allowance_nanos !== null || allowance === null) return;
  const time_zone = file.time_zone ?? "UTC";
  const row = { ...known, config: file, time_zone, daily_allowance_nanos: allowance };
  await days.dayAccount({ ...dayOf(row), carryOverNanos: 0n });
}

async function openAccounts(
  { ledger, ids }: ProjectsDependencies,
  { id, currency }: ProjectRow,
): Promise<ProjectAccounts> {
  const open = (kind: "funding" | "budget" | "spend", owner: string, mustNotExceed: boolean) =>
    ledger.open({ id: ids.next("account"), kind, owner, currency, mustNotExceed });
  const [funding, organisation, budget, spend] = await Promise.all([
    open("funding", `organisation/${currency}`, false),
    open("budget", `organisation/${currency}`, false),
    open("budget", `project/${id}`, true),
    open("spend", `project/${id}`, false),
  ]);
  return { funding, organisation, budget, spend };
}

/** Tops the project's budget up to `totalNanos` of what its file ever promised, exactly once. */
async function fundTotal(
  dependencies: ProjectsDependencies,
  row: ProjectRow,
  totalNanos: Nanos,
): Promise<void> {
  const { funding, budget } = await openAccounts(dependencies, row);
  const id = derivedId("transfer", "total", row.id, String(totalNanos));
  await fundUpTo(dependencies, { id, from: funding, to: budget }, totalNanos);
}

/** The same, of its token budget: whole tokens. */
async function fundTokens(
  dependencies: ProjectsDependencies,
  row: ProjectRow,
  tokens: bigint,
): Promise<void> {
  if (tokens === 0n) return;
  const { funding, budget } = await openTokenAccounts(dependencies, row.id);
  const id = derivedId("transfer", "tokens.total", row.id, String(tokens));
  await fundUpTo(dependencies, { id, from: funding, to: budget }, tokens);
}

async function fundUpTo(
  { db, ledgerIn }: ProjectsDependencies,
  transfer: { id: TransferId; from: AccountId; to: AccountId },
  total: bigint,
): Promise<void> {
  await db.sql.transaction(async (transaction) => {
    // One at a time: two that raise the total at once would both find what was given before.
    const lock = `total/${transfer.to}`;
    await transaction.execute(sql`select pg_advisory_xact_lock(hashtextextended(${lock}, 0))`);
    const [given] = await rows<{ nanos: string }>(
      transaction,
      sql`select coalesce(sum(amount_nanos), 0)::text as nanos from transfer
        where credit_account_id = ${transfer.to} and reason = 'total'`,
    );
    const amountNanos = total - BigInt(given?.nanos ?? "0");
    if (amountNanos <= 0n) return;
    const funding = { ...transfer, amountNanos, reason: "total" };
    await ledgerIn({ sql: transaction }).fund(funding);
  });
}

async function describe(dependencies: ProjectsDependencies, row: ProjectRow): Promise<Project> {
  const { db, ledger, days, tasks } = dependencies;
  const { budget } = await openAccounts(dependencies, row);
  const [balance, today, taskRows, counts] = await Promise.all([
    ledger.balance(budget),
    days
      .dayAccount(dayOf(row))
      .then((account) => (account === null ? null : ledger.balance(account))),
    tasks.list(row.id),
    rows<{ state: string; count: number }>(
      db.sql,
      sql`select state, count(*)::int as count from trial where project_id = ${row.id}
        group by state`,
    ),
  ]);
  if (balance === null) throw new Error("a project's account is gone");
  return {
    id: row.id,
    name: row.name,
    currency: row.currency,
    time_zone: row.time_zone,
    per_trial_nanos: String(units(row.config.budget.per_trial)),
    daily_allowance_nanos: row.daily_allowance_nanos,
    agents: row.config.agents ?? [],
    pairs: row.config.pairs ?? [],
    tasks: taskRows.map(({ name }) => name),
    balance: toBalance(balance),
    today: today === null ? null : toBalance(today),
    trial_counts: Object.fromEntries(counts.map(({ state, count }) => [state, count])),
    created_at: rfc3339(readTime(row.created_at)),
  };
}

/** What a day's budget needs to know of its project. */
export function dayOf(row: ProjectRow): Day {
  const { carry_over: carryOver, tokens } = row.config.budget;
  return {
    projectId: row.id,
    timeZone: row.time_zone,
    currency: row.currency,
    allowanceNanos: row.daily_allowance_nanos === null ? null : BigInt(row.daily_allowance_nanos),
    carryOverNanos: carryOver === undefined ? 0n : units(carryOver),
    tokenAllowance: tokens?.daily === undefined ? null : BigInt(tokens.daily),
  };
}

async function findProject(db: Database, name: string): Promise<ProjectRow | null> {
  const [row] = await rows<ProjectRow>(db.sql, sql`select * from project where name = ${name}`);
  return row ?? null;
}

function allowanceText(file: ProjectFile): string | null {
  const allowance = file.budget.daily_allowance;
  return allowance === undefined ? null : String(units(allowance));
}

/** The schema has checked its form; only an amount past a bigint column is left to refuse. */
function units(text: string): Nanos {
  const nanos = parseUnits(text);
  if (nanos === null) throw new Problem("invalid_request", `${text} is too large an amount`);
  return nanos;
}

/** A project by its id; none is ever removed. */
export async function readProject(db: Sql, id: ProjectId): Promise<ProjectRow> {
  const [row] = await rows<ProjectRow>(db, sql`select * from project where id = ${id}`);
  if (row === undefined) throw new Error(`a project is gone: ${id}`);
  return row;
}
