/**
 * The guard over PostgreSQL: an allocation's session, its project's policy as it is now, and what
 * its trial has sent.
 *
 * Invariant: what the database said is believed for a second at most, so that a session ends, and a
 * policy changes, within it.
 */
import { createHash, timingSafeEqual } from "node:crypto";
import { isIP } from "node:net";
import { sql } from "drizzle-orm";
import type { EventType } from "../../orchestrator/contract/events.ts";
import type { ProjectFile } from "../../orchestrator/contract/projects.ts";
import type { Database, Sql } from "../../orchestrator/db/database.ts";
import { rows } from "../../orchestrator/db/rows.ts";
import type { BackgroundTask } from "../../orchestrator/runtime/background.ts";
import type { Clock } from "../../orchestrator/runtime/clock.ts";
import { isId, type ProjectId, type TrialId } from "../../orchestrator/runtime/ids.ts";
import { createKept } from "../../orchestrator/runtime/kept.ts";
import type { Log } from "../../orchestrator/runtime/log.ts";
import type { Secrets } from "../../orchestrator/secrets/secrets.ts";
import type { FlowDraft, FlowSink } from "../../orchestrator/traffic/sink.ts";
import { createDecisions, type Deciding } from "./decide.ts";
import type { EgressGuard, EgressSession, RequestDecision, RequestHead } from "./guard.ts";
import {
  createLives,
  endLive,
  formsOfCanary,
  keepValues,
  type Live,
  policyOf,
  type SessionRow,
} from "./live.ts";
import { createOwnAddresses } from "./own-addresses.ts";
import { createPlaces, PLACE_LIMITS, type PlaceLimits } from "./places.ts";
import { createRates } from "./rates.ts";
import { denied } from "./refusal.ts";
import { type Host, isSame, readHost } from "./targets.ts";

export interface EgressGuardDependencies {
  db: Pick<Database, "sql">;
  projects: { findById(id: ProjectId): Promise<{ config: ProjectFile }> };
  secrets: Pick<Secrets, "get">;
  resolver: { resolve(host: string): Promise<string[]> };
  clock: Clock;
  log: Log;
  sink: FlowSink;
  /** Appends an event of the trial. */
  tell(trialId: TrialId, type: EventType, data: Record<string, unknown>): Promise<void>;
  /** Its canary was about to leave: ends the trial, within a second. */
  stopTrial(trialId: TrialId, reason: string): Promise<void>;
}

export interface EgressGuardOptions {
  /** The platform's own, `host:port` or URLs: refused even where a rule names them. */
  ownAddresses: () => readonly string[];
  /** As workers know it: reached through us where the policy says `llm_through_proxy`. */
  gatewayUrl: () => string;
  /** What one session may have at a time; `PLACE_LIMITS` unless told. */
  perSession?: PlaceLimits;
  /** Answers a trial that replays the record of `of`; whoever replays is forwarded nothing. */
  replay?: (of: TrialId, trialId: TrialId, head: RequestHead) => Promise<RequestDecision>;
}

/** `watch` runs in every process that has a guard: it ends sessions whose allocations ended. */
export type PostgresEgressGuard = EgressGuard & { watch: BackgroundTask };

const KEPT_MS = 500;
/** A name is asked for once for all that a client does at a time. */
const ADDRESSES_KEPT_MS = 2_000;
const WATCH_PERIOD_MS = 1_000;
/** An allocation's events; its records tell of every flow. */
const TOLD_PER_MINUTE = 120;
const ALLOCATION = /^allocation_[0-7][0-9a-hjkmnp-tv-z]{25}$/;
const NO_SESSION =
  "The proxy needs the name and the password that this allocation's worker was given";
const NO_RECORD = {
  outcome: "refuse" as const,
  ...denied("diverged", "This proxy has no record to answer a replay from"),
};
const ENDED = "The allocation has ended; the proxy forwards nothing more for it";
const STOPPED = "The trial is being stopped: its canary was about to leave";
const CANARY_REASON = "its canary was about to leave through the egress proxy";

export function createEgressGuard(
  dependencies: EgressGuardDependencies,
  options: EgressGuardOptions,
): PostgresEgressGuard {
  const { db, projects, secrets, resolver, clock, log, sink, tell, stopTrial } = dependencies;
  const lives = createLives();
  const rates = createRates(clock);
  const toStop = new Set<TrialId>();
  /** Whose canary was about to leave here; what the database said before that may be kept still. */
  const stopped = new Set<TrialId>();
  const rowOf = createKept((id: string) => readSession(db.sql, id), KEPT_MS, clock);
  const configOf = createKept(
    async (id: ProjectId) => (await projects.findById(id)).config,
    KEPT_MS,
    clock,
  );
  const secretOf = createKept(
    async (path: string) => (await secrets.get(path))?.value ?? null,
    KEPT_MS,
    clock,
  );
  const addressesOf = createKept(
    async (name: string) => (await resolver.resolve(name)).filter((text) => isIP(text) !== 0),
    ADDRESSES_KEPT_MS,
    clock,
  );
  const { isOwn } = createOwnAddresses(options.ownAddresses, resolve);
  return {
    session,
    stranger: denied("no_session", NO_SESSION),
    recordStranger: (draft) => append(draft),
    watch: { name: "egress_sessions", periodMs: WATCH_PERIOD_MS, activate: watch },
  };

  async function session(username: string, password: string): Promise<EgressSession | null> {
    if (!ALLOCATION.test(username)) return null;
    const row = await fresh(username);
    const given = createHash("sha256").update(password).digest();
    if (row === null || !timingSafeEqual(given, row.password_sha256)) return null;
    if (!row.is_current || stopped.has(row.trial_id)) return null;
    const live = lives.take(row);
    live.session ??= openSession(live);
    return live.session;
  }

  function openSession(live: Live): EgressSession {
    const { allocation_id, trial_id, project_id, agent } = live.row;
    return {
      allocationId: allocation_id,
      trialId: trial_id,
      projectId: project_id,
      agent,
      signal: live.closing.signal,
      places: createPlaces(options.perSession ?? PLACE_LIMITS),
      ...createDecisions(decidingOf(live)),
      sent: (byteCount) => sent(live, byteCount),
      onCanary: (flowId, host) => {
        stop(live);
        tellCanary(live, flowId, host);
      },
      record: (draft) => record(live, draft),
    };
  }

  function decidingOf(live: Live): Deciding {
    const { trial_id: trialId, project_id: projectId, replay_of: of } = live.row;
    const answer = options.replay;
    return {
      policy: async () => policyOf(live, await configOf(projectId)),
      ended: () => ended(live),
      recordFault: sink.fault,
      resolve,
      readSecret: secretOf,
      isOwn,
      isGateway: (host, port) => isSameAddress(options.gatewayUrl(), host, port),
      canaries: () => formsOfCanary(live),
      take: ({ place }, perMinute) => rates.take(`${trialId} ${place}`, perMinute),
      hasSentAll: ({ requestBytesPerTrialMax: max }, more) => sentOf(live) + more > max,
      onHead: (byteCount) => void sent(live, byteCount),
      onCanary: () => stop(live),
      onValues: (values) => keepValues(live, values),
      replay: of === null ? null : async (head) => (await answer?.(of, trialId, head)) ?? NO_RECORD,
    };
  }

  /** Asks whether its allocation has ended, or was overtaken, as the database had it just now. */
  async function ended(live: Live): Promise<string | null> {
    if (live.ended !== null) return live.ended;
    const row = await fresh(live.row.allocation_id);
    // Nothing is decided by what may be over; and when the database is back, it may go on.
    if (row === null) return "Nobody can say whether the allocation still runs; try again";
    if (!row.is_current) endLive(live, ENDED);
    else lives.take(row);
    return live.ended;
  }

  /** Null: there is no such session, or the database does not answer. */
  async function fresh(id: string): Promise<SessionRow | null> {
    try {
      return await rowOf(id);
    } catch (error) {
      log.error({ err: error, allocation_id: id }, "a session of egress was not read");
      return null;
    }
  }

  async function resolve(host: Host): Promise<readonly string[]> {
    if (host.kind === "address") return [host.text];
    try {
      return await addressesOf(host.text);
    } catch (error) {
      log.debug({ err: error }, "egress: a name was not resolved");
      return [];
    }
  }

  function sent(live: Live, byteCount: number): boolean {
    live.unwritten += byteCount;
    live.sent.pending += byteCount;
    const policy = live.policy?.policy;
    return !policy || policy.isWarnOnly || sentOf(live) <= policy.requestBytesPerTrialMax;
  }

  /** No session of the trial decides anything from now on; what is under way is cut when told. */
  function stop({ row: { trial_id: trialId } }: Live): void {
    for (const other of lives.ofTrial(trialId)) other.ended ??= STOPPED;
    stopped.add(trialId);
    toStop.add(trialId);
    stopAll();
  }

  /** What fails here is tried again by the watch. */
  function stopAll(): void {
    for (const trialId of toStop) {
      stopTrial(trialId, CANARY_REASON).then(
        () => toStop.delete(trialId),
        (error) => log.error({ err: error, trial_id: trialId }, "a trial was not stopped"),
      );
    }
  }

  function tellCanary(live: Live, flowId: string, host: string): void {
    if (!live.isCanaryTold) say(live, "egress.canary", { flow_id: flowId, host });
    live.isCanaryTold = true;
    for (const other of lives.ofTrial(live.row.trial_id)) endLive(other, STOPPED);
  }

  function record(live: Live, draft: FlowDraft): void {
    const canary = live.row.canary.split(":");
    const callId = draft.callId ?? callOf(draft);
    append({ ...draft, callId, secrets: [...draft.secrets, ...live.values, ...canary] });
    const { decision, server, id: flow_id } = draft;
    const { reason, rule, detail } = decision;
    if (reason === "canary") tellCanary(live, flow_id, server.host);
    if (decision.action === "deny" || reason === "warned") {
      const method = draft.request?.method ?? "CONNECT";
      const data = { flow_id, host: server.host, method, reason, rule, detail };
      say(live, "egress.refused", data);
    }
    for (const secret of draft.credentials) {
      say(live, "egress.credential", { flow_id, secret, host: server.host });
    }
  }

  function say(live: Live, type: EventType, data: Record<string, unknown>): void {
    const { allocation_id, trial_id } = live.row;
    const isUrgent = type === "egress.canary";
    if (!isUrgent && rates.take(`told ${allocation_id}`, TOLD_PER_MINUTE) > 0) return;
    tell(trial_id, type, data).catch((error: unknown) => {
      log.warn({ err: error, trial_id, type }, "an event of egress was not written");
    });
  }

  function append(draft: FlowDraft): void {
    sink.append(draft).catch((error: unknown) => {
      log.error({ err: error, flow_id: draft.id }, "a flow was not recorded");
    });
  }

  async function watch(): Promise<{ sessions: number; ended: number }> {
    stopAll();
    const all = lives.all();
    const current = await currentOf(
      db.sql,
      all.map(({ row }) => row.allocation_id),
    );
    for (const live of all) {
      if (live.ended !== null) live.closing.abort();
      else if (!current.has(live.row.allocation_id)) endLive(live, ENDED);
      await write(live);
      const isOver = !current.has(live.row.allocation_id) && !toStop.has(live.row.trial_id);
      if (isOver && live.ended !== null && live.unwritten === 0) lives.forget(live);
    }
    const left = lives.all().length;
    return { sessions: left, ended: all.length - left };
  }

  /** Writes down what a session sent, for who looks, and for another proxy of the same trial. */
  async function write(live: Live): Promise<void> {
    const count = live.unwritten;
    if (count === 0) return;
    await db.sql.execute(sql`
      update egress_session set sent_byte_count = sent_byte_count + ${count}
      where allocation_id = ${live.row.allocation_id}`);
    live.unwritten -= count;
    live.sent.pending -= count;
    live.sent.stored += count;
  }
}

function sentOf({ sent }: Live): number {
  return sent.stored + sent.pending;
}

/**
 * Null: no such allocation was ever given a session. It is not current either once its trial's
 * canary was about to leave, in whatever process that was seen.
 */
async function readSession(db: Pick<Sql, "execute">, id: string): Promise<SessionRow | null> {
  const [row] = await rows<SessionRow>(
    db,
    sql`select session.allocation_id, session.trial_id, session.project_id,
        session.password_sha256, session.canary, trial.egress, trial.replay_of,
        case allocation.purpose when 'agent' then trial.agent end as agent,
        allocation.ended_at is null and trial.allocation_id = allocation.id
          and not ('canary' = any(trial.flags)) as is_current,
        (select sum(sent_byte_count)::text from egress_session as of_trial
          where of_trial.trial_id = session.trial_id) as sent
      from egress_session as session
      join allocation on allocation.id = session.allocation_id
      join trial on trial.id = session.trial_id
      where session.allocation_id = ${id}`,
  );
  return row ?? null;
}

async function currentOf(
  db: Pick<Sql, "execute">,
  ids: readonly string[],
): Promise<ReadonlySet<string>> {
  if (ids.length === 0) return new Set();
  const found = await rows<{ id: string }>(
    db,
    sql`select allocation.id from allocation join trial on trial.allocation_id = allocation.id
      where allocation.id = any(${sql.param(ids)}::text[]) and allocation.ended_at is null
        and not ('canary' = any(trial.flags))`,
  );
  return new Set(found.map(({ id }) => id));
}

function isSameAddress(url: string, host: Host, port: number): boolean {
  const at = URL.parse(url);
  if (at === null) return false;
  const read = readHost(at.hostname);
  const own = Number(at.port) || (at.protocol === "https:" ? 443 : 80);
  return read.outcome === "read" && isSame(read.value, host) && own === port;
}

/** Of a flow to our gateway: the call that its answer names. */
function callOf({ decision, response }: FlowDraft): string | null {
  if (decision.reason !== "gateway") return null;
  const named = response?.headers.find(([name]) => name.toLowerCase() === "x-request-id")?.[1];
  return named !== undefined && isId("call", named) ? named : null;
}
