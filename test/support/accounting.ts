/** Alarms and reconciliations as an API answers them, over nothing but memory. */
import type { Services } from "../../orchestrator/api/services.ts";
import type { Reconciliation, UnmatchedCall } from "../../orchestrator/contract/accounting.ts";
import { Problem } from "../../orchestrator/problem.ts";

export const UNMATCHED: UnmatchedCall = {
  id: "flow_01m800p1qhetn8r52gxtfk7ezm",
  kind: "unpaid_flow",
  project_id: null,
  trial_id: null,
  host: "api.openai.com",
  detail: "POST /v1/responses of api.openai.com, around the gateway: nothing was reserved for it",
  found_at: "2026-11-21T10:00:00.000Z",
  answered_at: null,
  answer: null,
};

export const RECONCILIATION: Reconciliation = {
  day: "2026-11-20",
  provider: "openai",
  model: "gpt-5",
  our_input_tokens: 1_000,
  our_output_tokens: 100,
  their_input_tokens: 1_000,
  their_output_tokens: 100,
  is_matched: true,
  detail: "2 calls of ours: they agree",
  compared_at: "2026-11-21T04:00:00.000Z",
};

export function fakeAccounting(): Pick<Services, "unmatched" | "reconciliations"> {
  let unmatched = [UNMATCHED];
  return {
    unmatched: {
      list: async ({ isAnsweredToo }) =>
        unmatched.filter(({ answered_at: at }) => isAnsweredToo || at === null),
      answer: async (id, because) => {
        const found = unmatched.find((each) => each.id === id);
        if (found === undefined) throw new Problem("not_found", `There is no unmatched call ${id}`);
        if (found.answered_at !== null) throw new Problem("conflict", `${id} was answered already`);
        const answered = { ...found, answered_at: found.found_at, answer: because };
        unmatched = unmatched.map((each) => (each.id === id ? answered : each));
        return answered;
      },
    },
    reconciliations: {
      read: async () => ({ rows: [RECONCILIATION], sources: [] }),
      reconcile: async (day) => ({
        rows: [{ ...RECONCILIATION, day }],
        sources: [{ provider: "openai", fault: null }],
      }),
    },
  };
}
