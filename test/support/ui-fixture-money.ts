/** What the UI's fixture says of money: levels, a statement with its reversals, results, proof. */
import type { Approval } from "../../orchestrator/contract/approvals.ts";
import type {
  AdherenceReport,
  BudgetEvent,
  BudgetLevel,
  BudgetReport,
  CostReport,
  ProfitReport,
  StatementLine,
} from "../../orchestrator/contract/budgets.ts";
import type { LedgerReport, LedgerStatus } from "../../orchestrator/contract/ledger.ts";
import type { Balance } from "../../orchestrator/contract/money.ts";
import type { Project } from "../../orchestrator/contract/projects.ts";
import type { Repricing } from "../../orchestrator/contract/repricing.ts";
import { type EpochMs, rfc3339 } from "../../orchestrator/runtime/clock.ts";
import { balance } from "./ui-fixture-data.ts";

const ALERTS = [50, 80, 90, 95, 100];
const HOUR_MS = 3_600_000;

/** Of the project, or of one trial of it. */
export function budgetReport(
  project: Project,
  nowMs: EpochMs,
  trial: { id: string; balance: Balance } | null,
): BudgetReport {
  const { name, id, time_zone } = project;
  const owner = `project/${id}`;
  const burn = {
    last_hour_nanos: "420000000",
    last_day_nanos: "3218400300",
    basis: "last_hour" as const,
    exhausted_at: rfc3339(nowMs + 51 * HOUR_MS),
    lasts_the_day: false,
  };
  const idle = {
    last_hour_nanos: "0",
    last_day_nanos: "0",
    basis: "not_spending" as const,
    exhausted_at: null,
    lasts_the_day: false,
  };
  const level = { is_limited: true, alerts: ALERTS, passed: [] as number[] };
  const organisation = balance(100_000_000_000n, 3_219_312_300n, 560_000_000n);
  const levels: BudgetLevel[] = [
    {
      ...{ scope: "organisation", owner: "organisation/CAD", is_limited: false, alerts: [] },
      ...{
        passed: [],
        balance: organisation,
        burn: { ...burn, basis: "not_limited", exhausted_at: null },
      },
    },
    { ...level, scope: "project", owner, balance: project.balance, burn },
  ];
  if (project.today !== null) {
    levels.push({
      ...{ ...level, scope: "day", owner: `day/${id}/2026-11-21`, balance: project.today },
      ...{ passed: [50, 80], burn: { ...burn, exhausted_at: rfc3339(nowMs + 1.6 * HOUR_MS) } },
    });
    const tokens = {
      currency: "TOK",
      funded_nanos: "2000000",
      reserved_nanos: "12000",
      spent_nanos: "1930400",
      available_nanos: "57600",
    };
    levels.push({
      ...{ ...level, scope: "project", owner: `tokens/${owner}`, balance: tokens, burn: idle },
      passed: [50, 80, 90, 95],
    });
  }
  if (trial !== null) {
    const own = { owner: `trial/${trial.id}`, balance: trial.balance };
    levels.push({ ...level, scope: "trial", ...own, burn: idle });
  }
  return {
    name: trial?.id ?? name,
    project: name,
    owner: trial === null ? owner : `trial/${trial.id}`,
    balance: trial?.balance ?? project.balance,
    at: rfc3339(nowMs),
    time_zone,
    levels,
    next_top_up:
      project.today === null
        ? null
        : {
            at: "2026-12-01T05:00:00.000Z",
            date: "2026-12-01",
            every: "two_weeks",
            amount_nanos: "10000000000",
          },
  };
}

export function budgetEvents(project: Project, nowMs: EpochMs): BudgetEvent[] {
  const owner = `project/${project.id}`;
  const base = { owner, currency: "CAD", funded_nanos: "5000000000", spent_nanos: "4261003600" };
  const made: Partial<BudgetEvent>[] = [
    { kind: "threshold", scope: "day", percent: 80 },
    { kind: "threshold", scope: "day", percent: 50, spent_nanos: "2510000000" },
    { kind: "replenished", scope: "day", percent: null, spent_nanos: "0" },
    { kind: "lapsed", scope: "day", percent: null, spent_nanos: "3100000000" },
    { ...{ kind: "threshold", scope: "project", percent: 95 }, currency: "TOK" },
  ];
  return made.map((changes, index) => ({
    ...{ ...base, seq: 9 - index, scope: "day", kind: "threshold", percent: null },
    at: rfc3339(nowMs - index * 2 * HOUR_MS),
    ...(changes.currency === "TOK" ? { funded_nanos: "2000000", spent_nanos: "1900400" } : {}),
    ...changes,
  }));
}

/** 75 lines: calls, one of them taken back, and the top-up that was first of all. */
export function statementLines(nowMs: EpochMs, trialId: string): StatementLine[] {
  const id = (number: number) => `transfer_${String(number).padStart(26, "0")}`;
  const own = "project/project_tidy-cli";
  return Array.from({ length: 75 }, (_, index): StatementLine => {
    const at = rfc3339(nowMs - index * 61_000);
    const head = { transfer_id: id(75 - index), at, note: null, reverses_id: null };
    if (index === 74) {
      const text = { kind: "direct", reason: "topup", note: "agreed with the team for November" };
      const sides = { debit: "organisation/CAD", credit: own };
      const amounts = { amount_nanos: "25000000000", available_nanos: "25000000000" };
      return { ...head, ...text, ...sides, ...amounts };
    }
    const available_nanos = String(21_221_599_700n + BigInt(index) * 31_000_000n);
    if (index === 1) {
      return {
        ...head,
        ...{ kind: "direct", reason: "reversal", note: "the provider billed this call twice" },
        ...{ debit: "spend/tidy-cli", credit: own, amount_nanos: "6020000", available_nanos },
        reverses_id: id(71),
      };
    }
    return {
      ...head,
      kind: ["post", "pending", "void"][index % 3] ?? "post",
      reason: "call",
      debit: index % 2 === 0 ? `trial/${trialId}` : own,
      credit: "spend/tidy-cli",
      amount_nanos: String(1_204_000 * (index + 1)),
      available_nanos,
    };
  });
}

export function costReport(project: string, by: CostReport["by"]): CostReport {
  const row = (group: string, trials: number, passed: number, cost: bigint, tokens: string) => ({
    ...{ group, trials, passed, tokens, cost_nanos: String(cost) },
    cost_per_success_nanos: passed === 0 ? null : String(cost / BigInt(passed) + 1n),
  });
  const rows =
    by === "phase"
      ? [row("plan", 9, 4, 812_000_000n, "402310"), row("execute", 9, 4, 2_406_400_300n, "1528090")]
      : [
          row("claude-code · qwen3-coder-next", 3, 2, 1_687_402_500n, "921310"),
          row("qwen-code · qwen3-coder-next", 3, 2, 512_000_000n, "604120"),
          row("aider · a-very-long-pair-name-without-any-space-in-it", 3, 0, 1_018_997_800n, "90"),
        ];
  return {
    ...{ project, currency: "CAD", by, trials: 9, passed: 4, cost_nanos: "3218400300" },
    cost_per_success_nanos: "804600075",
    rows,
  };
}

export function profitReport(project: string): ProfitReport {
  const row = (agent: string | null, income: bigint, cost: bigint) => ({
    ...{ agent, pair: agent === null ? null : "qwen3-coder-next" },
    ...{ trials: agent === null ? 0 : 3, passed: agent === null ? 0 : 2 },
    ...{ income_nanos: String(income), cost_nanos: String(cost) },
    result_nanos: String(income - cost),
  });
  return {
    ...{ project, currency: "CAD", income_nanos: "5000000000", cost_nanos: "3218400300" },
    result_nanos: "1781599700",
    rows: [
      row("claude-code", 1_000_000_000n, 1_687_402_500n),
      row("qwen-code", 3_000_000_000n, 512_000_000n),
      row(null, 1_000_000_000n, 0n),
    ],
  };
}

export function adherenceReport(project: Project, trialId: string): AdherenceReport {
  const row = (
    scope: AdherenceReport["rows"][number]["scope"],
    owner: string,
    [limit, peak]: [bigint, bigint],
    currency = "CAD",
  ) => ({
    ...{ scope, owner, currency, limit_nanos: String(limit), peak_nanos: String(peak) },
    peak_at: "2026-11-20T18:12:00.000Z",
    least_available_nanos: String(limit - peak),
    is_within: true,
  });
  const { name, id } = project;
  return {
    ...{ project: name, is_within: true, budget_count: 4, next_cursor: null },
    rows: [
      row("project", `project/${id}`, [25_000_000_000n, 3_778_400_300n]),
      row("day", `day/${id}/2026-11-20`, [5_000_000_000n, 5_000_000_000n]),
      row("trial", `trial/${trialId}`, [500_000_000n, 251_003_600n]),
      row("project", `tokens/project/${id}`, [2_000_000n, 1_942_400n], "TOK"),
    ],
    journal: {
      ...{ position: 1_204, chain: "9f2c".repeat(16), key_id: `ed25519:${"A".repeat(43)}` },
      ...{ signed_at: "2026-11-21T11:59:00.000Z", covered_transfers: 318, all_transfers: 321 },
    },
  };
}

const KEY = {
  key_id: `ed25519:${"A".repeat(43)}`,
  fingerprint: "SHA256:47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU",
  public_key: "-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n",
};

export const LEDGER_STATUS: LedgerStatus = {
  key: KEY,
  ...{ sealed: 1_204, unsealed: 3, checkpoints: 12, last_signed_at: "2026-11-21T11:59:00.000000Z" },
};

/** The journal agrees, or names the first transfer that was changed. */
export function ledgerReport(isIntact: boolean): LedgerReport {
  return {
    ...{ is_intact: isIntact, is_key_trusted: true, accounts: 40, sealed: 1_204, unsealed: 3 },
    ...{ checkpoints: 12, unsigned: 9, chain: "9f2c".repeat(16) },
    last_signed_at: LEDGER_STATUS.last_signed_at,
    keys: [KEY],
    fault: isIntact
      ? null
      : {
          ...{ what: "changed", line: 71, position: 42, account_id: null },
          transfer_id: "transfer_01kah27zs8e4rsk0ncyqjpys5f",
          detail: "its amount is not the one that was sealed",
        },
  };
}

export function repricing(trialId: string, pair: string | undefined): Repricing {
  const version = "qwen3-coder-next@2026-11-01";
  const model = pair === undefined ? "qwen3-coder-next" : "o3";
  const call = (number: number, cost: string, again: string) => ({
    ...{ call_id: `call_${number}`, side: "normal" as const, started_at: rfc3339(0) },
    ...{ input_tokens: 9_004, output_tokens: 1_210, is_estimated: number === 2 },
    basis: "usage" as const,
    charged: { model: "qwen3-coder-next", price_version: version, cost_nanos: cost },
    repriced: { model, price_version: `${model}@2026-11-01`, cost_nanos: again },
    difference_nanos: String(BigInt(again) - BigInt(cost)),
  });
  return {
    ...{ trial_id: trialId, currency: "CAD", charged_nanos: "39318000" },
    ...{ repriced_nanos: "27318000", difference_nanos: "-12000000" },
    ...{ swap_nanos: "0", estimated_count: 1, reservation_count: 0 },
    calls: [call(1, "8041200", "2041200"), call(2, "31276800", "25276800")],
  };
}

/** What the paused trial asks: money, with a forecast. */
export function openApproval(id: string, trialId: string): Approval {
  return {
    ...{ id, trial_id: trialId, project: "tidy-cli", kind: "budget", state: "open" },
    facts: {
      ...{ currency: "CAD", limit_nanos: "100000000", spent_nanos: "88000000" },
      shortage: {
        ...{ level: "trial", account_id: "account_01kah27zs8e4rsk0ncyqjpys5f", unit: "CAD" },
        ...{ required_nanos: "31000000", available_nanos: "12000000" },
      },
      forecast: {
        ...{ low_nanos: "42000000", high_nanos: "160000000", confidence_percent: 50 },
        ...{ basis: "own_calls", evidence_count: 14 },
      },
      suggested_nanos: "150000000",
      checkpoint: {
        ...{ files_changed: 2, lines_added: 34, lines_removed: 5, has_session: true },
        completed_phases: ["plan"],
      },
    },
    egress: null,
    content_sha256: "5f".repeat(32),
    ...{ reason: null, topped_up_nanos: null, resolved_at: null },
    created_at: rfc3339(0),
  };
}
