/** What a project's money did: events, profit, costs, and whether its budgets held. */
import type {
  AdherenceReport,
  AdherenceRow,
  BudgetEvent,
  BudgetEventList,
  CostReport,
  CostRow,
  Income,
  ProfitReport,
  ProfitRow,
} from "../../contract/budgets.ts";
import { type Command, JSON_OPTION, type Values } from "../command.ts";
import { shownAmount, unitAmount } from "../defaults.ts";
import { EXIT, usage } from "../failure.ts";
import type { Column } from "../print.ts";
import { compact, ownerWord } from "../tables.ts";

const PROJECT = { name: "project", isRequired: true };
const EITHER = { name: "project|trial", isRequired: true };
const PAGE_OPTIONS = {
  limit: { type: "string", short: "n", value: "<count>", help: "At most so many (20)" },
  before: { type: "string", value: "<cursor>", help: "Go on after this one" },
} as const;
const GROUPINGS = ["agent_pair", "agent", "pair", "task", "phase"];

export const budgetEvents: Command = {
  name: "budget events",
  summary: "Show marks passed, allowances given and lapsed, newest first",
  positionals: [EITHER],
  options: { ...PAGE_OPTIONS, json: JSON_OPTION },
  async run({ positionals: [name = ""], options, print, connect }) {
    const client = await connect();
    const path = `budgets/${encodeURIComponent(name)}/events?${pageQuery(options)}`;
    const found = await client.get<BudgetEventList>(path);
    if (options.flag("json")) print.json(found);
    else print.table(EVENT_COLUMNS, found.events);
    if (found.next_cursor !== null) print.note(`more: --before ${found.next_cursor}`);
    return EXIT.done;
  },
};

export const budgetPl: Command = {
  name: "budget pl",
  summary: "Show profit and loss of a project, by agent and model pair",
  positionals: [PROJECT],
  options: { json: JSON_OPTION },
  async run({ positionals: [name = ""], options, print, connect }) {
    const client = await connect();
    const report = await client.get<ProfitReport>(`budgets/${encodeURIComponent(name)}/profit`);
    if (options.flag("json")) {
      print.json(report);
      return EXIT.done;
    }
    const { currency } = report;
    print.table(profitColumns(currency), report.rows);
    print.line(`income  ${shownAmount(report.income_nanos, currency)}`);
    print.line(`cost    ${shownAmount(report.cost_nanos, currency)}`);
    print.line(`result  ${shownAmount(report.result_nanos, currency)}`);
    return EXIT.done;
  },
};

export const budgetIncome: Command = {
  name: "budget income",
  summary: "Record what was earned with a project's or a trial's work",
  positionals: [EITHER, { name: "amount", isRequired: true }],
  options: {
    note: { type: "string", value: "<text>", help: "What for: an invoice, a customer" },
    json: JSON_OPTION,
  },
  async run({ positionals: [name = "", text = ""], options, print, connect }) {
    const client = await connect();
    const path = `budgets/${encodeURIComponent(name)}`;
    const { balance } = await client.get<{ balance: { currency: string } }>(path);
    const amount = unitAmount("amount", text, balance.currency);
    if (amount.currency === "TOK") throw usage("amount: income is money, not tokens");
    const note = options.text("note");
    const body = note === undefined ? amount : { ...amount, note };
    const income = await client.post<Income>(`${path}/income`, body);
    if (options.flag("json")) print.json(income);
    else print.line(`income     ${shownAmount(income.income_nanos, income.currency)} in all`);
    return EXIT.done;
  },
};

export const budgetCosts: Command = {
  name: "budget costs",
  summary: "Show what a project's trials cost, and what each success cost",
  positionals: [PROJECT],
  options: {
    by: {
      type: "string",
      value: "<what>",
      help: `${GROUPINGS.join(", ")} (agent_pair)`,
    },
    json: JSON_OPTION,
  },
  notes: [
    "Cost per success is all spending over the trials that passed: failed ones are paid too.",
  ],
  async run({ positionals: [name = ""], options, print, connect }) {
    const by = options.text("by") ?? "agent_pair";
    if (!GROUPINGS.includes(by)) {
      throw usage(`--by: "${by}" is not one of ${GROUPINGS.join(", ")}`);
    }
    const client = await connect();
    const path = `budgets/${encodeURIComponent(name)}/costs?by=${by}`;
    const report = await client.get<CostReport>(path);
    if (options.flag("json")) {
      print.json(report);
      return EXIT.done;
    }
    print.table(costColumns(report), report.rows);
    const { currency, trials, passed, cost_nanos, cost_per_success_nanos: each } = report;
    const perSuccess = each === null ? "" : `, ${shownAmount(each, currency)} a success`;
    const cost = shownAmount(cost_nanos, currency);
    print.line(`in all: ${cost}, ${passed} of ${trials} trials passed${perSuccess}`);
    return EXIT.done;
  },
};

export const budgetAdherence: Command = {
  name: "budget adherence",
  summary: "Show whether budgets held: each one's limit and the most ever used of it",
  positionals: [PROJECT],
  options: { ...PAGE_OPTIONS, json: JSON_OPTION },
  notes: ["Exit status 1 when a budget was ever exceeded."],
  async run({ positionals: [name = ""], options, print, connect }) {
    const client = await connect();
    const path = `budgets/${encodeURIComponent(name)}/adherence?${pageQuery(options)}`;
    const report = await client.get<AdherenceReport>(path);
    if (options.flag("json")) print.json(report);
    else {
      print.table(ADHERENCE_COLUMNS, report.rows);
      for (const line of verdictLines(report)) print.line(line);
    }
    if (report.next_cursor !== null) print.note(`more: --before ${report.next_cursor}`);
    return report.is_within ? EXIT.done : EXIT.failed;
  },
};

function verdictLines({ is_within, budget_count, journal }: AdherenceReport): string[] {
  const held = is_within ? "held" : "DID NOT HOLD";
  const lines = [`of ${budget_count} limited budgets, each ${held}`];
  if (!is_within) lines[0] = `of ${budget_count} limited budgets, one or more ${held}`;
  if (journal === null) return [...lines, "proof      no checkpoint is signed yet"];
  const { covered_transfers: covered, all_transfers: all } = journal;
  return [
    ...lines,
    `proof      checkpoint ${journal.position}, signed ${journal.signed_at} by ${journal.key_id}`,
    `           ${journal.chain}`,
    `           covers ${covered} of ${all} transfers; check: autocode ledger export, verify`,
  ];
}

function pageQuery(options: Values): URLSearchParams {
  const limit = options.integer("limit", { min: 1, max: 200 }) ?? 20;
  const query = new URLSearchParams({ limit: String(limit) });
  const before = options.text("before");
  if (before !== undefined) query.set("before", before);
  return query;
}

const EVENT_COLUMNS: readonly Column<BudgetEvent>[] = [
  { title: "at", value: ({ at }) => at.slice(0, 19) },
  { title: "budget", value: ({ owner }) => ownerWord(owner), shrinks: true },
  {
    title: "event",
    value: ({ kind, percent }) => (percent === null ? kind : `passed ${percent} %`),
  },
  {
    title: "spent",
    value: ({ spent_nanos, currency }) => shownAmount(spent_nanos, currency),
    align: "right",
  },
  {
    title: "of",
    value: ({ funded_nanos, currency }) => shownAmount(funded_nanos, currency),
    align: "right",
  },
];

function profitColumns(currency: string): Column<ProfitRow>[] {
  const amount = (title: "income" | "cost" | "result"): Column<ProfitRow> => ({
    title,
    value: (row) => shownAmount(row[`${title}_nanos`], currency),
    align: "right",
  });
  return [
    { title: "agent", value: ({ agent }) => agent ?? "(the project)", shrinks: true },
    { title: "pair", value: ({ pair }) => pair ?? "", shrinks: true },
    { title: "passed", value: ({ passed, trials }) => `${passed}/${trials}`, align: "right" },
    amount("income"),
    amount("cost"),
    amount("result"),
  ];
}

function costColumns({ by, currency }: CostReport): Column<CostRow>[] {
  return [
    { title: by.replace("_", " / "), value: ({ group }) => group, shrinks: true },
    { title: "passed", value: ({ passed, trials }) => `${passed}/${trials}`, align: "right" },
    { title: "tokens", value: ({ tokens }) => compact(Number(tokens)), align: "right" },
    {
      title: "cost",
      value: ({ cost_nanos }) => shownAmount(cost_nanos, currency),
      align: "right",
    },
    {
      title: "per success",
      value: ({ cost_per_success_nanos: each }) =>
        each === null ? "-" : shownAmount(each, currency),
      align: "right",
    },
  ];
}

const ADHERENCE_COLUMNS: readonly Column<AdherenceRow>[] = [
  { title: "budget", value: ({ owner }) => ownerWord(owner), shrinks: true },
  {
    title: "limit",
    value: ({ limit_nanos, currency }) => shownAmount(limit_nanos, currency),
    align: "right",
  },
  {
    title: "most used",
    value: ({ peak_nanos, currency }) => shownAmount(peak_nanos, currency),
    align: "right",
  },
  {
    title: "least left",
    value: ({ least_available_nanos, currency }) => shownAmount(least_available_nanos, currency),
    align: "right",
  },
  { title: "held", value: ({ is_within }) => (is_within ? "yes" : "NO") },
];
