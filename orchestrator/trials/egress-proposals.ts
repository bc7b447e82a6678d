/**
 * Rules of egress that a person is asked for. A proposal is an approval of kind `egress_rule`; once
 * a person approves it, its rules stand in the project's policy.
 *
 * Invariants: a trial has one open proposal, which grows by a new one that takes its place, so that
 * nobody approves what was added after they looked; what is granted is in the policy, in the same
 * transaction.
 */
import { isDeepStrictEqual } from "node:util";
import { sql } from "drizzle-orm";
import { Value } from "typebox/value";
import { EgressRuleFacts } from "../contract/approvals.ts";
import type { RuleProposal } from "../contract/flow-views.ts";
import type { FlowRecord } from "../contract/flows.ts";
import type { ProjectFile } from "../contract/projects.ts";
import type { Database, Sql } from "../db/database.ts";
import { jsonText, rows } from "../db/rows.ts";
import { Problem } from "../problem.ts";
import { addRules, diffOf, proposeRule, yamlOf } from "../projects/egress-proposal.ts";
import { type Clock, rfc3339 } from "../runtime/clock.ts";
import type { ApprovalId, Ids, ProjectId, TrialId } from "../runtime/ids.ts";

export interface ProposalDependencies {
  db: Database;
  clock: Clock;
  ids: Ids;
}

/** What it takes to propose a rule for a flow. */
export type ProposedFlow = Pick<
  FlowRecord,
  "id" | "project_id" | "trial_id" | "server" | "request" | "decision"
>;

type ProjectConfig = { id: ProjectId; name: string; config: ProjectFile };

const RULES_MAX = 50;
const NOTE =
  "Approved, the rules stand in the project's policy at once. The project's file does not know of " +
  "them: add the lines below, or the next `autocode project apply` takes them back.";

export function createEgressProposals({ db, clock, ids }: ProposalDependencies) {
  return { propose };

  /**
   * A rule that would let such a flow through, and unless it is a dry run the approval that asks.
   *
   * @throws Problem `conflict` when no rule would, or when it belongs to no project or trial.
   */
  async function propose(
    flow: ProposedFlow,
    { isDryRun }: { isDryRun: boolean },
  ): Promise<RuleProposal> {
    const { project_id: projectId, trial_id: trialId, server, request } = flow;
    if (projectId === null || trialId === null) {
      throw new Problem("conflict", "This flow belongs to no trial, so no policy is its own");
    }
    return db.sql.transaction(async (transaction) => {
      await transaction.execute(sql`select id from trial where id = ${trialId} for no key update`);
      const project = await needProject(transaction, projectId as ProjectId);
      const proposal = proposeRule(project.config.egress, {
        ...{ host: server.host, port: server.port, decision: flow.decision },
        method: request?.method ?? null,
      });
      if (proposal.outcome === "none") {
        throw new Problem("conflict", `No rule would let ${server.host} through: ${proposal.why}`);
      }
      const { rule, diff } = proposal;
      const answer = { project: project.name, rule, diff };
      if (isDryRun) return { ...answer, approval_id: null };
      const approvalId = await file(transaction, trialId as TrialId, project, flow.id, rule);
      return { ...answer, approval_id: approvalId };
    });
  }

  async function file(
    transaction: Sql,
    trialId: TrialId,
    { config }: ProjectConfig,
    flowId: string,
    rule: EgressRuleFacts["rules"][number],
  ): Promise<ApprovalId> {
    const [open] = await rows<{ id: ApprovalId; facts: unknown }>(
      transaction,
      sql`select id, facts from approval
        where trial_id = ${trialId} and kind = 'egress_rule' and state = 'open'`,
    );
    const known = readFacts(open?.facts);
    const isAsked = known?.rules.some((other) => isDeepStrictEqual(other, rule));
    if (open !== undefined && isAsked === true) return open.id;
    const rules = [...(known?.rules ?? []), rule];
    if (rules.length > RULES_MAX) {
      const detail = `The trial has ${RULES_MAX} rules that wait for an answer; answer them first`;
      throw new Problem("conflict", detail);
    }
    const after = addRules(config.egress, rules);
    if (after.outcome === "none") throw new Problem("conflict", after.why);
    const facts: EgressRuleFacts = {
      rules,
      flow_ids: [...(known?.flow_ids ?? []), flowId].slice(-RULES_MAX),
      diff: diffOf(config.egress, after.egress),
      yaml: yamlOf(rules),
      note: NOTE,
    };
    const at = rfc3339(clock.now());
    if (open !== undefined) {
      await transaction.execute(sql`
        update approval set state = 'superseded', resolved_at = ${at} where id = ${open.id}`);
    }
    const id = ids.next("approval");
    await transaction.execute(sql`
      insert into approval (id, trial_id, kind, state, facts, created_at)
      values (${id}, ${trialId}, 'egress_rule', 'open', ${jsonText(facts)}::jsonb, ${at})`);
    return id;
  }
}

export function readFacts(facts: unknown): EgressRuleFacts | null {
  return Value.Check(EgressRuleFacts, facts) ? facts : null;
}

/** Puts an approval's rules into its project's policy, in the transaction that grants it. */
export async function grantRules(
  transaction: Sql,
  trialId: TrialId,
  facts: EgressRuleFacts,
  at: string,
): Promise<void> {
  const [trial] = await rows<{ project_id: ProjectId }>(
    transaction,
    sql`select project_id from trial where id = ${trialId}`,
  );
  if (trial === undefined) throw new Error(`an approval of a trial that is gone: ${trialId}`);
  const { id, config } = await needProject(transaction, trial.project_id);
  const after = addRules(config.egress, facts.rules);
  if (after.outcome === "none") throw new Problem("conflict", after.why);
  const changed: ProjectFile = { ...config, egress: after.egress };
  await transaction.execute(sql`
    update project set config = ${JSON.stringify(changed)}::jsonb, updated_at = ${at}
    where id = ${id}`);
}

/** Locked, so that of two changes of a policy none is lost. */
async function needProject(transaction: Sql, id: ProjectId): Promise<ProjectConfig> {
  const [project] = await rows<ProjectConfig>(
    transaction,
    sql`select id, name, config from project where id = ${id} for no key update`,
  );
  if (project === undefined) throw new Problem("conflict", "The flow's project is gone");
  return project;
}
