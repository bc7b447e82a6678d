/**
 * The join of traffic and money, kept: paid flows without an entry in the ledger, and entries
 * without a record, each an alarm until somebody answers it or its other half comes.
 *
 * What was just stored is looked at within a second; a sweep over the store finds what no process
 * heard of.
 */
import { sql } from "drizzle-orm";
import type { UnmatchedCalls } from "../api/services.ts";
import type { UnmatchedCall } from "../contract/accounting.ts";
import type { EventType } from "../contract/events.ts";
import type { FlowRecord, FlowSummary, Retention } from "../contract/flows.ts";
import type { Finding } from "../contract/system.ts";
import type { Database, Sql } from "../db/database.ts";
import { jsonText, readTime, rows } from "../db/rows.ts";
import { Problem } from "../problem.ts";
import type { BackgroundTask } from "../runtime/background.ts";
import { type Clock, type EpochMs, rfc3339 } from "../runtime/clock.ts";
import type { FlowId, TrialId } from "../runtime/ids.ts";
import type { Log } from "../runtime/log.ts";
import { callIdOf, type LedgerFacts, matchFlow } from "./match.ts";
import { isCallPath, isLlmHost } from "./paid-hosts.ts";
import { beforeOf } from "./retention.ts";
import type { FlowQuery, Traffic } from "./traffic.ts";

export interface Matcher extends UnmatchedCalls {
  /** Takes what was just stored; looks at it within a second. */
  onStored(flows: readonly FlowRecord[]): void;
  /** Looks at what was stored, and again at what may still follow; each process for its own. */
  readonly task: BackgroundTask;
  /** A duty: what nobody heard of, over the last day. */
  readonly sweep: BackgroundTask;
  /** Open alarms, as Prometheus text. */
  metrics(): Promise<string>;
  describe(): Promise<Finding>;
}

export interface MatcherDependencies {
  db: Pick<Database, "sql">;
  traffic: Pick<Traffic, "search" | "find">;
  /** Addresses of the installation's and the projects' own providers. */
  providers: () => readonly string[];
  /** Appends an event of the trial, as a part of a transaction. */
  tell(
    trialId: TrialId,
    type: EventType,
    data: Record<string, unknown>,
    within: Sql,
  ): Promise<void>;
  clock: Clock;
  log: Log;
}

export interface MatcherOptions {
  periodMs: number;
  /** How long the other half may take. */
  graceMs: number;
  sweepPeriodMs: number;
  /** How far back the first sweep of a process looks. */
  sweepMs: number;
  /** When a later one looks as far back; the others go on from the last. */
  wholeSweepPeriodMs: number;
  /** Flows that wait to be looked at; beyond it, the sweep finds them. */
  waitingMax: number;
}

export const MATCHER_DEFAULTS: MatcherOptions = {
  periodMs: 1_000,
  graceMs: 120_000,
  sweepPeriodMs: 600_000,
  sweepMs: 25 * 3_600_000,
  wholeSweepPeriodMs: 6 * 3_600_000,
  waitingMax: 20_000,
};

/** Of a flow that waits: no headers and no bodies. */
type Waiting = { flow: FlowRecord; since: EpochMs };

type Alarm = Pick<UnmatchedCall, "id" | "project_id" | "trial_id" | "host" | "detail">;

const PAGE = 1_000;
const FINDS_AT_ONCE = 16;

export function createMatcher(
  dependencies: MatcherDependencies,
  given: Partial<MatcherOptions> = {},
): Matcher {
  const { db, traffic, providers, tell, clock, log } = dependencies;
  const options = { ...MATCHER_DEFAULTS, ...given };
  let waiting: Waiting[] = [];
  /** How far the last sweep came, and when the last whole one was. */
  let swept: { untilMs: EpochMs; wholeMs: EpochMs } | null = null;
  return {
    list: ({ isAnsweredToo }) => listRows(db, isAnsweredToo),
    answer,
    onStored,
    task: { name: "match_calls", periodMs: options.periodMs, activate: matchWaiting },
    sweep: { name: "sweep_unmatched_calls", periodMs: options.sweepPeriodMs, activate: sweepAll },
    metrics,
    describe,
  };

  function onStored(flows: readonly FlowRecord[]): void {
    const since = clock.now();
    const room = options.waitingMax - waiting.length;
    for (const flow of flows.slice(0, Math.max(0, room))) waiting.push({ flow: slim(flow), since });
  }

  async function matchWaiting(): Promise<{ looked_at: number; unmatched: number }> {
    const now = clock.now();
    const batch = waiting;
    waiting = [];
    if (batch.length === 0) return { looked_at: 0, unmatched: 0 };
    try {
      const facts = await readFacts(
        db,
        batch.map(({ flow }) => flow),
      );
      const later: Waiting[] = [];
      const alarms: Alarm[] = [];
      for (const each of batch) {
        const match = matchFlow(each.flow, facts, providers());
        if (match.outcome !== "unmatched") continue;
        if (match.mayFollow && now - each.since < options.graceMs) later.push(each);
        else alarms.push(alarmOf(each.flow, match.detail));
      }
      const unmatched = await raise(alarms);
      putBack(later);
      return { looked_at: batch.length - later.length, unmatched };
    } catch (error) {
      putBack(batch);
      throw error;
    }
  }

  /** Before what came meanwhile; the newest beyond the bound are left to the sweep. */
  function putBack(batch: readonly Waiting[]): void {
    waiting = [...batch, ...waiting].slice(0, options.waitingMax);
  }

  /**
   * Both directions, over what began since the last sweep and has had its time. The first of a
   * process, and one at times, looks at all of `sweepMs`: records may come late, of long calls or
   * when their spool was held up.
   */
  async function sweepAll(): Promise<{ flows: number; unmatched: number; unrecorded: number }> {
    const now = clock.now();
    const until = now - options.graceMs;
    const oldest = now - options.sweepMs;
    const isWhole = swept === null || now - swept.wholeMs >= options.wholeSweepPeriodMs;
    const since =
      swept === null || isWhole ? oldest : Math.max(oldest, swept.untilMs - options.graceMs);
    const calls = await settledCalls(db, { startedSince: oldest, endedSince: since, until });
    const open = await openCalls(db);
    const unseen = new Map<string, CallFacts>([...open, ...calls].map((call) => [call.id, call]));
    let flows = 0;
    let unmatched = 0;
    for await (const page of pages({ since: rfc3339(since) })) {
      flows += page.length;
      forget(unseen, page);
      unmatched += await sweepPage(page, until);
    }
    await seek(unseen, since + options.graceMs);
    const lacking = calls.filter((call) => unseen.has(call.id) && isKept(call));
    const unrecorded = await raise(lacking.map(alarmOfCall));
    await settleRecorded(
      db,
      clock,
      open.flatMap(({ id }) => (unseen.has(id) ? [] : id)),
    );
    swept = { untilMs: until, wholeMs: swept === null || isWhole ? now : swept.wholeMs };
    return { flows, unmatched, unrecorded };
  }

  /** Looks for the records of calls that began before then: no page had them. */
  async function seek(unseen: Map<string, CallFacts>, before: EpochMs): Promise<void> {
    const early = [...unseen.values()].filter((call) => readTime(call.started_at) < before);
    for (const [trialId, calls] of Map.groupBy(early, (call) => call.trial_id)) {
      const begun = calls.map((call) => readTime(call.started_at));
      const query: FlowQuery = {
        ...{ trial_id: trialId, door: "gateway" },
        since: rfc3339(Math.min(...begun) - options.graceMs),
        until: rfc3339(Math.max(...begun) + options.graceMs),
      };
      for await (const page of pages(query)) forget(unseen, page);
    }
  }

  async function* pages(query: FlowQuery): AsyncGenerator<FlowSummary[]> {
    let cursor: string | undefined;
    do {
      const at = cursor === undefined ? {} : { cursor };
      const page = await traffic.search(query, { limit: PAGE, ...at });
      yield page.flows;
      cursor = page.next_cursor ?? undefined;
    } while (cursor !== undefined);
  }

  /** Only what a list cannot rule out is fetched whole. */
  async function sweepPage(page: readonly FlowSummary[], until: EpochMs): Promise<number> {
    const paid = await callsWithTransfer(db, page);
    const doubtful = page.filter(
      (summary) =>
        Date.parse(summary.started_at) <= until &&
        isSuspect(summary) &&
        !(summary.door === "gateway" && paid.has(summary.call_id ?? "")),
    );
    const suspects: FlowRecord[] = [];
    for (let at = 0; at < doubtful.length; at += FINDS_AT_ONCE) {
      const batch = doubtful.slice(at, at + FINDS_AT_ONCE);
      const found = await Promise.all(batch.map(({ id }) => traffic.find(id as FlowId)));
      suspects.push(...found.flatMap((flow) => (flow === null ? [] : slim(flow))));
    }
    const facts = await readFacts(db, suspects);
    const alarms = suspects.flatMap((flow) => {
      const match = matchFlow(flow, facts, providers());
      return match.outcome === "unmatched" ? alarmOf(flow, match.detail) : [];
    });
    return raise(alarms);
  }

  function isSuspect({ decision, door, call_id: callId, host, port, kind, path }: FlowSummary) {
    if (decision.action === "deny" || decision.reason === "replayed") return false;
    if (door === "gateway") return callId !== null;
    if (decision.reason === "gateway") return path !== null && isCallPath(path);
    return isLlmHost(host, port, providers()) && kind !== "packet";
  }

  /** Whether its record is within its project's retention, and does not just leave it. */
  function isKept({ started_at: startedAt, retention }: SettledCall): boolean {
    const before = beforeOf(retention ?? {}, "meta", clock.now());
    return readTime(startedAt) >= before + options.graceMs;
  }

  /**
   * Tells each once: the row is the alarm, and is there when its event is. How many were new.
   *
   * @throws when one of them could not be told; then none of them is kept.
   */
  async function raise(alarms: readonly Alarm[]): Promise<number> {
    if (alarms.length === 0) return 0;
    const at = rfc3339(clock.now());
    const added = await db.sql.transaction(async (transaction) => {
      const inserted = await rows<Alarm>(
        transaction,
        sql`insert into unmatched_call (id, project_id, trial_id, host, detail, found_at)
          select id, project_id, trial_id, left(host, 500), left(detail, 1000), ${at}
          from jsonb_to_recordset(${jsonText(alarms)}::jsonb)
            as alarm (id text, project_id text, trial_id text, host text, detail text)
          on conflict (id) do nothing
          returning id, project_id, trial_id, host, detail`,
      );
      for (const { id, trial_id: trialId, host, detail } of inserted) {
        if (trialId === null) continue;
        const data = { flow_id: id, host, detail };
        await tell(trialId as TrialId, "traffic.unmatched", data, transaction);
      }
      return inserted;
    });
    for (const { id, trial_id, host, detail } of added) {
      log.error({ id, trial_id, host, detail }, "a paid call is not matched");
    }
    return added.length;
  }

  async function answer(id: string, because: string): Promise<UnmatchedCall> {
    const [answered] = await rows<Row>(
      db.sql,
      sql`update unmatched_call set answered_at = ${rfc3339(clock.now())}, answer = ${because}
        where id = ${id} and answered_at is null returning *`,
    );
    if (answered !== undefined) return toUnmatched(answered);
    const [known] = await rows<Row>(db.sql, sql`select * from unmatched_call where id = ${id}`);
    if (known === undefined) throw new Problem("not_found", `There is no unmatched call ${id}`);
    throw new Problem("conflict", `${id} was answered already: ${known.answer}`);
  }

  async function metrics(): Promise<string> {
    const open = await countOpen(db);
    const name = "autocode_unmatched_calls_open";
    return (
      `# HELP ${name} Paid calls without an entry in the ledger or a record, not yet answered\n` +
      `# TYPE ${name} gauge\n` +
      `${name}{kind="unpaid_flow"} ${open.unpaid}\n${name}{kind="unrecorded_call"} ${open.unrecorded}\n`
    );
  }

  async function describe(): Promise<Finding> {
    const { unpaid, unrecorded } = await countOpen(db);
    const part = "traffic and ledger";
    if (unpaid + unrecorded === 0) {
      const detail = "every paid call has its entry and its record";
      return { part, status: "ok", detail, next_step: null };
    }
    const detail = `${unpaid} paid flows without an entry, ${unrecorded} calls without a record`;
    return { part, status: "warn", detail, next_step: "autocode traffic unmatched" };
  }
}

type Row = {
  id: string;
  project_id: string | null;
  trial_id: string | null;
  host: string;
  detail: string;
  found_at: string;
  answered_at: string | null;
  answer: string | null;
};

async function listRows(db: Pick<Database, "sql">, isAnsweredToo: boolean) {
  const found = await rows<Row>(
    db.sql,
    sql`select * from unmatched_call where ${isAnsweredToo} or answered_at is null
      order by found_at desc, id desc limit 1000`,
  );
  return found.map(toUnmatched);
}

function toUnmatched(row: Row): UnmatchedCall {
  const time = (text: string) => rfc3339(readTime(text));
  return {
    ...row,
    kind: kindOf(row.id),
    found_at: time(row.found_at),
    answered_at: row.answered_at === null ? null : time(row.answered_at),
  };
}

function kindOf(id: string): UnmatchedCall["kind"] {
  return id.startsWith("flow_") ? "unpaid_flow" : "unrecorded_call";
}

async function countOpen(
  db: Pick<Database, "sql">,
): Promise<{ unpaid: number; unrecorded: number }> {
  const [open] = await rows<{ unpaid: number; unrecorded: number }>(
    db.sql,
    sql`select (count(*) filter (where id like 'flow\\_%'))::int as unpaid,
        (count(*) filter (where id like 'call\\_%'))::int as unrecorded
      from unmatched_call where answered_at is null`,
  );
  return open ?? { unpaid: 0, unrecorded: 0 };
}

type CallFacts = { id: string; trial_id: string; started_at: string };

type SettledCall = CallFacts & {
  project_id: string;
  provider: string;
  retention: Retention | null;
};

/**
 * Calls that cost something and that a gateway of this release made: one of the release before
 * kept what passed in the call's own row, and no gateway had registered to record before the first.
 */
async function settledCalls(
  db: Pick<Database, "sql">,
  within: { startedSince: EpochMs; endedSince: EpochMs; until: EpochMs },
): Promise<SettledCall[]> {
  return rows<SettledCall>(
    db.sql,
    sql`select call.id, trial_id, trial.project_id, provider, call.started_at,
        project.config -> 'retention' as retention
      from call join trial on trial.id = trial_id join project on project.id = trial.project_id
      where call.started_at >= ${rfc3339(within.startedSince)}
        and call.ended_at >= ${rfc3339(within.endedSince)}
        and call.ended_at <= ${rfc3339(within.until)}
        and call.cost_nanos > 0 and request_gzip is null and response_gzip is null
        and call.started_at >=
          (select min(started_at) from traffic_source where door = 'gateway')`,
  );
}

/** Those that an alarm is open of, the newest. */
async function openCalls(db: Pick<Database, "sql">): Promise<CallFacts[]> {
  return rows<CallFacts>(
    db.sql,
    sql`select call.id, call.trial_id, call.started_at
      from unmatched_call join call on call.id = unmatched_call.id
      where answered_at is null order by found_at desc limit 1000`,
  );
}

/** The other half came after all. */
async function settleRecorded(
  db: Pick<Database, "sql">,
  clock: Clock,
  ids: readonly string[],
): Promise<void> {
  if (ids.length === 0) return;
  await db.sql.execute(sql`
    update unmatched_call set answered_at = ${rfc3339(clock.now())},
      answer = 'its record came after all'
    where answered_at is null and id = any(${sql.param(ids)}::text[])`);
}

function forget(calls: Map<string, unknown>, recorded: readonly FlowSummary[]): void {
  for (const { door, call_id: callId } of recorded) {
    if (door === "gateway" && callId !== null) calls.delete(callId);
  }
}

function alarmOfCall({ id, project_id, trial_id, provider }: SettledCall): Alarm {
  const detail = `the call ${id} to ${provider} was settled, and no flow is recorded of it`;
  return { id, project_id, trial_id, host: provider, detail };
}

/** The ledger's side of these flows. */
async function readFacts(
  db: Pick<Database, "sql">,
  flows: readonly FlowRecord[],
): Promise<LedgerFacts> {
  const callIds = flows.flatMap((flow) => callIdOf(flow) ?? []);
  const named = flows.flatMap(({ transfer_id: id }) => id ?? []);
  if (callIds.length + named.length === 0) return { transferOf: new Map(), transfers: new Set() };
  const calls = await rows<{ id: string; transfer_id: string }>(
    db.sql,
    sql`select id, transfer_id from call where id = any(${sql.param(callIds)}::text[])`,
  );
  const transferOf = new Map(calls.map(({ id, transfer_id }) => [id, transfer_id]));
  const wanted = [...new Set([...named, ...transferOf.values()])];
  const transfers = await rows<{ id: string }>(
    db.sql,
    sql`select id from transfer where id = any(${sql.param(wanted)}::text[])`,
  );
  return { transferOf, transfers: new Set(transfers.map(({ id }) => id)) };
}

/** A call's row names a transfer that exists: the database holds it to that. */
async function callsWithTransfer(
  db: Pick<Database, "sql">,
  flows: readonly FlowSummary[],
): Promise<ReadonlySet<string>> {
  const ids = flows.flatMap(({ call_id: id }) => id ?? []);
  const found = await rows<{ id: string }>(
    db.sql,
    sql`select id from call where id = any(${sql.param(ids)}::text[])`,
  );
  return new Set(found.map(({ id }) => id));
}

function alarmOf(flow: FlowRecord, detail: string): Alarm {
  const { id, project_id, trial_id, server } = flow;
  return { id, project_id, trial_id, host: server.host, detail };
}

/** What waits in memory: of an answer the header that names its call, and no bodies. */
function slim(flow: FlowRecord): FlowRecord {
  const { request, response } = flow;
  const headers = (response?.headers ?? []).filter(([name]) => /^x-request-id$/i.test(name));
  return {
    ...flow,
    messages: null,
    request: request === null ? null : { ...request, headers: null, body: null },
    response: response === null ? null : { ...response, headers, body: null },
  };
}
