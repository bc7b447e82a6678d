/**
 * Trials that are run again from their record. A replay is a trial of the same agent, task, seed
 * and pair whose `replay_of` names the recorded one: nothing of it is paid, since its budget stays
 * empty and its key buys nothing, and nobody but the record answers it.
 */
import { sql } from "drizzle-orm";
import type { Side, Wire } from "../contract/agents.ts";
import type { Cassette, Divergence } from "../contract/cassettes.ts";
import type { FlowRecord } from "../contract/flows.ts";
import type { Trial } from "../contract/trials.ts";
import type { Database, Sql } from "../db/database.ts";
import { jsonText, rows } from "../db/rows.ts";
import { Problem } from "../problem.ts";
import { type Clock, rfc3339 } from "../runtime/clock.ts";
import type { CheckpointId, Ids, TrialId } from "../runtime/ids.ts";
import { makeCassette, tellUnplayable } from "../traffic/cassette.ts";
import type { Traffic } from "../traffic/traffic.ts";
import { appendEvent, TRIAL_CHANNEL } from "./events.ts";
import { resumeOfFork } from "./fork.ts";
import { scriptFrom } from "./recorded-script.ts";
import { viewTrials } from "./rows.ts";
import { isTerminal } from "./trial.ts";
import type { TrialReplays } from "./trials.ts";

export interface ReplayTrials extends TrialReplays {
  /** The recorded trial that answers this one; null: it is no replay. */
  sourceOf(id: TrialId): Promise<TrialId | null>;
  /** Tells the trial where it left its record, and marks it `replay_diverged`. */
  diverged(id: TrialId, divergence: Divergence): Promise<void>;
}

export interface ReplayDependencies {
  db: Database;
  traffic: Pick<Traffic, "scan">;
  clock: Clock;
  ids: Ids;
}

export interface ReplayOptions {
  /** Of all bodies of a record together: a replay holds them in memory. */
  bodyBytesMax: number;
}

export const REPLAY_DEFAULTS: ReplayOptions = { bodyBytesMax: 256 * 2 ** 20 };

/** A trial's mark in `flags`. */
export const DIVERGED = "replay_diverged";

const WIRES: Readonly<Record<string, Wire>> = {
  "/v1/chat/completions": "openai.chat",
  "/v1/completions": "openai.completions",
  "/v1/embeddings": "openai.embeddings",
  "/v1/responses": "openai.responses",
  "/v1/messages": "anthropic.messages",
};

export function createReplayTrials(
  dependencies: ReplayDependencies,
  given: Partial<ReplayOptions> = {},
): ReplayTrials {
  const { db, clock, ids } = dependencies;
  const options = { ...REPLAY_DEFAULTS, ...given };
  const sources = new Map<TrialId, TrialId | null>();
  return {
    replay,
    cassette,
    script,
    sourceOf,
    diverged: (id, divergence) => diverged(db, clock, id, divergence),
  };

  async function replay(id: TrialId): Promise<Trial> {
    const { trial } = await record(dependencies, options, id);
    const resume = await beginningOf(db.sql, trial);
    const made = ids.next("trial");
    const at = rfc3339(clock.now());
    await db.sql.transaction(async (transaction) => {
      await transaction.execute(sql`
        insert into trial (id, project_id, experiment_id, task_id, agent, pair, is_scripted,
          attempt, seed, priority, limit_nanos, wall_ms, requirements, egress, state, replay_of,
          resume, forked_from, created_at, updated_at)
        select ${made}, project_id, null, task_id, agent, pair, is_scripted, attempt, seed,
          priority, limit_nanos, wall_ms, requirements, egress, 'queued', id,
          ${resume === null ? null : jsonText(resume)}::jsonb, forked_from, ${at}, ${at}
        from trial where id = ${id}`);
      const data = { from: null, to: "queued", reason: `replay of ${id}` };
      await appendEvent(transaction, made, "trial.state", data, at);
      await transaction.execute(sql`select pg_notify(${TRIAL_CHANNEL}, ${made})`);
    });
    return needTrial(db.sql, made);
  }

  /** Brought here, or made of what was recorded here. */
  async function cassette(id: TrialId): Promise<Cassette> {
    const [kept] = await rows<{ content: string }>(
      db.sql,
      sql`select content from cassette where trial_id = ${id}`,
    );
    if (kept !== undefined) return JSON.parse(kept.content) as Cassette;
    return (await record(dependencies, options, id)).cassette;
  }

  async function script(id: TrialId): Promise<string> {
    const { cassette, trial, callOf } = await record(dependencies, options, id);
    const calls = cassette.exchanges.flatMap(({ door, flow_id, request, response }) => {
      const wire = WIRES[request.path];
      const call = callOf.get(flow_id);
      if (door !== "gateway" || wire === undefined || response?.status !== 200) return [];
      const { encoding = "utf8", content = "" } = response.body ?? {};
      const side: Side = call?.side ?? "normal";
      return [{ wire, side, response: Buffer.from(content, encoding) }];
    });
    const [task] = await rows<{ instruction: string }>(
      db.sql,
      sql`select task.instruction from task join trial on trial.task_id = task.id
        where trial.id = ${trial.id}`,
    );
    const made = scriptFrom(task?.instruction ?? "", calls);
    if (made !== null) return made;
    throw new Problem("conflict", `${id} has no answer of a model: there is nothing to play`);
  }

  /** A trial is made as a replay, or it is none for ever. */
  async function sourceOf(id: TrialId): Promise<TrialId | null> {
    const known = sources.get(id);
    if (known !== undefined) return known;
    const [found] = await rows<{ replay_of: TrialId | null }>(
      db.sql,
      sql`select replay_of from trial where id = ${id}`,
    );
    if (found === undefined) return null;
    if (sources.size >= SOURCES_KEPT) sources.clear();
    sources.set(id, found.replay_of);
    return found.replay_of;
  }
}

const SOURCES_KEPT = 10_000;

type CallSide = { id: string; side: Side };

async function record(
  { db, traffic }: ReplayDependencies,
  { bodyBytesMax }: ReplayOptions,
  id: TrialId,
) {
  const trial = await needTrial(db.sql, id);
  if (trial.replay_of === id) {
    const detail = `${id} replays a cassette: give that file again, with --cassette`;
    throw new Problem("conflict", detail);
  }
  if (!isTerminal(trial.state)) {
    throw new Problem("conflict", `${id} is ${trial.state}: it has no whole record yet`);
  }
  if (trial.replay_of !== null) {
    const detail = `${id} is a replay itself: replay ${trial.replay_of}, which it was made from`;
    throw new Problem("conflict", detail);
  }
  const flows = await readFlows(traffic, id, bodyBytesMax);
  const calls = await rows<CallSide>(
    db.sql,
    sql`select id, side from call where trial_id = ${id} order by started_at, id`,
  );
  refuseGaps(id, flows, calls);
  const { agent, task, pair, seed, verdict, forked_from: forkedFrom } = trial;
  const like = { id, agent, task, pair, seed, verdict };
  const made = makeCassette(
    forkedFrom === null ? like : { ...like, forked_from: forkedFrom },
    flows,
  );
  if (made.outcome === "unplayable") {
    throw new Problem("conflict", `${id} cannot be replayed. ${tellUnplayable(made.flows)}`);
  }
  const byId = new Map(calls.map((call) => [call.id, call]));
  const callOf = new Map(flows.map((flow) => [flow.id, byId.get(flow.call_id ?? "")]));
  return { cassette: made.cassette, trial, callOf };
}

/** Of a fork what it began with; null: the task's own files. */
async function beginningOf(db: Sql, { id, agent, forked_from: from }: Trial) {
  if (from === null) return null;
  const resume = await resumeOfFork(db, agent, from as CheckpointId);
  if (resume !== null) return resume;
  const detail = `${id} cannot be replayed: it began with ${from}, which is no longer kept`;
  throw new Problem("conflict", detail);
}

async function readFlows(
  traffic: Pick<Traffic, "scan">,
  id: TrialId,
  bodyBytesMax: number,
): Promise<FlowRecord[]> {
  const flows: FlowRecord[] = [];
  let byteCount = 0;
  for await (const flow of traffic.scan({ trial_id: id })) {
    for (const side of [flow.request, flow.response]) {
      byteCount += Buffer.byteLength(side?.body?.content ?? "");
    }
    if (byteCount > bodyBytesMax) {
      const detail =
        `${id} cannot be replayed: its bodies are larger than ${bodyBytesMax} bytes together, ` +
        "which is what a replay may hold in memory. `autocode traffic export` writes its flows";
      throw new Problem("conflict", detail);
    }
    flows.push(flow);
  }
  return flows;
}

/** Every call that was paid has its record, or the record is not whole. */
function refuseGaps(id: TrialId, flows: readonly FlowRecord[], calls: readonly CallSide[]): void {
  const recorded = new Set(
    flows.flatMap(({ door, call_id }) => (door === "gateway" ? call_id : [])),
  );
  const lacking = calls.filter((call) => !recorded.has(call.id));
  if (lacking.length > 0) {
    const named = lacking.slice(0, 5).map((call) => call.id);
    throw new Problem(
      "conflict",
      `${id} cannot be replayed: its record lacks ${lacking.length} of ${calls.length} calls ` +
        `(${named.join(", ")}). They are still on their way, or their retention is over: ` +
        "`autocode traffic doctor` tells",
    );
  }
  if (flows.length > 0) return;
  throw new Problem("conflict", `${id} cannot be replayed: nothing of it is recorded`);
}

async function needTrial(db: Sql, id: TrialId): Promise<Trial> {
  const [found] = await viewTrials(db, sql`trial.id = ${id}`, 1);
  if (found === undefined) throw new Problem("not_found", `There is no trial ${id}`);
  return found;
}

async function diverged(
  db: Database,
  clock: Clock,
  id: TrialId,
  divergence: Divergence,
): Promise<void> {
  await db.sql.transaction(async (transaction) => {
    const [marked] = await rows<{ id: TrialId }>(
      transaction,
      sql`update trial set flags = array_append(flags, ${DIVERGED})
        where id = ${id} and not ${DIVERGED} = any(flags) returning id`,
    );
    // Both doors may find it; the trial left its record once.
    if (marked === undefined) return;
    await appendEvent(transaction, id, "replay.diverged", divergence, rfc3339(clock.now()));
  });
}
