/** What the fixture asks of a person: a paused trial's money, and rules that were asked for. */
import type { Services } from "../../orchestrator/api/services.ts";
import type { Approval } from "../../orchestrator/contract/approvals.ts";
import type { Trial, TrialState } from "../../orchestrator/contract/trials.ts";
import type { TrialId } from "../../orchestrator/runtime/ids.ts";
import type { FixtureFlows } from "./ui-fixture-flows.ts";
import { openApproval } from "./ui-fixture-money.ts";

interface State {
  ids: { passed: TrialId; paused: TrialId };
  approvalIds: { budget: string; rule: string };
  flows: FixtureFlows;
  answers: object[];
  change(
    id: TrialId,
    changes: Partial<Trial>,
    event: { type: "trial.state"; data: Record<string, unknown> },
  ): void;
}

export function fixtureApprovals(state: State): Services["approvals"] {
  const { ids, approvalIds, flows } = state;
  let answeredCount = 0;
  let ruleState: Approval["state"] = "open";
  return {
    list: async ({ trialId }) =>
      [budget(), ...(flows.proposed.length > answeredCount ? [rule()] : [])].filter(
        (each) => trialId === undefined || each.trial_id === trialId,
      ),
    get: async (id) => (id === approvalIds.rule ? rule() : budget()),
    approve: async (id, given) =>
      id === approvalIds.rule ? answerRule("granted", given) : answer("queued", given),
    reject: async (id, given) =>
      id === approvalIds.rule ? answerRule("rejected", given) : answer("cancelled", given),
  };

  function budget(): Approval {
    return openApproval(approvalIds.budget, ids.paused);
  }

  function answer(to: TrialState, given: object): Approval {
    state.answers.push(given);
    state.change(
      ids.paused,
      { state: to, approval_id: null, ended_at: null },
      { type: "trial.state", data: { from: "paused", to } },
    );
    return { ...budget(), state: to === "queued" ? "granted" : "rejected" };
  }

  function answerRule(to: "granted" | "rejected", given: object): Approval {
    state.answers.push(given);
    answeredCount = flows.proposed.length;
    ruleState = to;
    return rule();
  }

  function rule(): Approval {
    const isOpen = flows.proposed.length > answeredCount;
    return {
      ...openApproval(approvalIds.rule, ids.passed),
      ...{ kind: "egress_rule", facts: null, content_sha256: "ae".repeat(32) },
      state: isOpen ? "open" : ruleState,
      egress: {
        rules: [{ action: "allow", hosts: ["telemetry.example"] }],
        ...{ flow_ids: flows.proposed, note: "Asked for from a refused flow" },
        diff: "--- autocode.yaml\n+++ autocode.yaml\n@@ egress @@\n+    - hosts: [telemetry.example]\n",
        yaml: "egress:\n  rules:\n    - action: allow\n      hosts: [telemetry.example]\n",
      },
    };
  }
}
