/** Trials as tables have them, and their way to the wire. */
import { type SQL, sql } from "drizzle-orm";
import type { ResumePoint } from "../contract/checkpoints.ts";
import type { Trial, TrialState, Verdict } from "../contract/trials.ts";
import type { AgentReport, VerifyReport } from "../contract/worker.ts";
import type { Requirements } from "../contract/workers.ts";
import type { Sql } from "../db/database.ts";
import { readTime, rows } from "../db/rows.ts";
import { rfc3339 } from "../runtime/clock.ts";
import type {
  AccountId,
  AllocationId,
  CheckpointId,
  ExperimentId,
  ProjectId,
  TaskId,
  TrialId,
} from "../runtime/ids.ts";

/** What the next allocation goes on from; without a checkpoint it has the plan alone. */
export type Resume = ResumePoint & { checkpoint_id?: CheckpointId; manifest_sha256?: string };

export type TrialRow = {
  id: TrialId;
  project_id: ProjectId;
  experiment_id: ExperimentId | null;
  task_id: TaskId;
  agent: string;
  pair: string;
  is_scripted: boolean;
  attempt: number;
  seed: string;
  priority: number;
  limit_nanos: string;
  wall_ms: string;
  requirements: Requirements;
  state: TrialState;
  reason: string | null;
  verdict: Verdict | null;
  flags: string[];
  account_id: AccountId | null;
  allocation_id: AllocationId | null;
  fence: number;
  lease_until: string | null;
  tries: number;
  cancel_requested: boolean;
  is_budget_exhausted: boolean;
  /** While it is placed or running: its provider's quota is used up until then. */
  resume_at: string | null;
  resume: Resume | null;
  forked_from: CheckpointId | null;
  replay_of: TrialId | null;
  agent_report: AgentReport | null;
  verify_report: VerifyReport | null;
  created_at: string;
  started_at: string | null;
  ended_at: string | null;
};

export async function findTrial(db: Pick<Sql, "execute">, id: TrialId): Promise<TrialRow | null> {
  const [row] = await rows<TrialRow>(db, sql`select * from trial where id = ${id}`);
  return row ?? null;
}

type ViewRow = TrialRow & {
  project: string;
  currency: string;
  task: string;
  approval_id: string | null;
  funded: string | null;
  reserved: string | null;
  spent: string | null;
  input_tokens: string;
  cache_read_tokens: string;
  cache_write_tokens: string;
  output_tokens: string;
  reasoning_tokens: string;
  call_count: number;
  swapped: string;
};

/** Trials with their project, task, money and usage; `condition` is over `trial` and `project`. */
export async function viewTrials(
  db: Pick<Sql, "execute">,
  condition: SQL,
  limit: number,
): Promise<Trial[]> {
  const found = await rows<ViewRow>(
    db,
    sql`
    with wanted as (
      select trial.*, project.name as project, project.currency
      from trial join project on project.id = trial.project_id
      where ${condition}
      order by trial.created_at desc, trial.id desc
      limit ${limit}
    )
    select wanted.*, task.name as task, swaps.swapped,
      account.credits_posted_nanos - account.reversed_nanos as funded,
      account.debits_pending_nanos as reserved,
      account.debits_posted_nanos - account.reversed_nanos as spent,
      (select id from approval
        where trial_id = wanted.id and state = 'open' and kind = 'budget') as approval_id,
      used.*
    from wanted
    join task on task.id = wanted.task_id
    left join account on account.id = wanted.account_id
    cross join lateral (
      select count(*)::int as call_count,
        coalesce(sum(input_tokens), 0)::bigint as input_tokens,
        coalesce(sum(cache_read_tokens), 0)::bigint as cache_read_tokens,
        coalesce(sum(cache_write_tokens), 0)::bigint as cache_write_tokens,
        coalesce(sum(output_tokens), 0)::bigint as output_tokens,
        coalesce(sum(reasoning_tokens), 0)::bigint as reasoning_tokens
      from call where call.trial_id = wanted.id
    ) as used
    cross join lateral (
      select coalesce(sum(charged_nanos), 0)::text as swapped
      from model_swap where model_swap.trial_id = wanted.id
    ) as swaps
    order by wanted.created_at desc, wanted.id desc`,
  );
  return found.map(toTrial);
}

function toTrial(row: ViewRow): Trial {
  const startedMs = row.started_at === null ? null : readTime(row.started_at);
  const endedMs = row.ended_at === null ? null : readTime(row.ended_at);
  return {
    id: row.id,
    project: row.project,
    experiment_id: row.experiment_id,
    task: row.task,
    agent: row.agent,
    agent_version: row.agent_report?.agent_version ?? null,
    pair: row.pair,
    attempt: row.attempt,
    seed: Number(row.seed),
    priority: row.priority,
    state: row.state,
    reason: row.reason,
    verdict: row.verdict,
    flags: row.flags,
    tries: row.tries,
    forked_from: row.forked_from,
    replay_of: row.replay_of,
    resume_at:
      row.state === "paused" && row.resume_at !== null ? rfc3339(readTime(row.resume_at)) : null,
    approval_id: row.approval_id,
    budget: toBalance(row),
    usage: {
      input_tokens: Number(row.input_tokens),
      cache_read_tokens: Number(row.cache_read_tokens),
      cache_write_tokens: Number(row.cache_write_tokens),
      output_tokens: Number(row.output_tokens),
      reasoning_tokens: Number(row.reasoning_tokens),
    },
    call_count: row.call_count,
    ...(row.swapped === "0" ? {} : { swap_nanos: row.swapped }),
    is_scripted: row.is_scripted,
    created_at: rfc3339(readTime(row.created_at)),
    started_at: startedMs === null ? null : rfc3339(startedMs),
    ended_at: endedMs === null ? null : rfc3339(endedMs),
    duration_ms: startedMs === null || endedMs === null ? null : Math.max(0, endedMs - startedMs),
  };
}

function toBalance(row: ViewRow): Trial["budget"] {
  if (row.funded === null || row.reserved === null || row.spent === null) return null;
  const available = BigInt(row.funded) - BigInt(row.reserved) - BigInt(row.spent);
  return {
    currency: row.currency,
    funded_nanos: row.funded,
    reserved_nanos: row.reserved,
    spent_nanos: row.spent,
    available_nanos: String(available),
  };
}
