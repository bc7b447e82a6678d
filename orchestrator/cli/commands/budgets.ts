/** Budgets: a project's by its name, a trial's by its id. */
import { writeFile } from "node:fs/promises";
import { resolve } from "node:path";
import type {
  Budget,
  BudgetLevel,
  BudgetList,
  BudgetReport,
  Statement,
  StatementLine,
} from "../../contract/budgets.ts";
import type { ProjectList } from "../../contract/projects.ts";
import type { Client } from "../client.ts";
import { type Command, JSON_OPTION } from "../command.ts";
import { shownAmount, unitAmount } from "../defaults.ts";
import { EXIT, Failure, usage } from "../failure.ts";
import type { Column } from "../print.ts";
import { balanceLines, ownerWord, statementCsv } from "../tables.ts";

const DATE = /^\d{4}-\d{2}-\d{2}(T\S+)?$/;
const NAME = { name: "project|trial", isRequired: true };

export const budgetShow: Command = {
  name: "budget show",
  summary: "Show what a budget holds at every level, and how fast it is used",
  positionals: [{ name: "project|trial", isRequired: false }],
  options: {
    at: { type: "string", value: "<time>", help: "As it was at this day or time" },
    json: JSON_OPTION,
  },
  async run({ positionals: [name], options, print, connect }) {
    const at = options.text("at");
    if (at !== undefined && !DATE.test(at))
      throw usage(`--at: "${at}" is no day such as 2026-11-21`);
    if (at !== undefined && name === undefined) throw usage("--at: name a project or a trial");
    const client = await connect();
    if (name === undefined) {
      const { budgets } = await client.get<BudgetList>("budgets");
      if (options.flag("json")) print.json(budgets);
      else print.table(await balanceColumns(client), budgets);
      return EXIT.done;
    }
    const query = at === undefined ? "" : `?${new URLSearchParams({ at })}`;
    const path = `budgets/${encodeURIComponent(name)}${query}`;
    const report = await client.get<BudgetReport>(path);
    if (options.flag("json")) {
      print.json(report);
      return EXIT.done;
    }
    for (const line of balanceLines(report.balance)) print.line(line);
    const { levels, next_top_up: next } = report;
    print.line("");
    print.table(LEVEL_COLUMNS, levels);
    const spending = levels.filter(({ burn }) => burn.last_day_nanos !== "0");
    if (spending.length > 0) {
      print.line("");
      print.table(PACE_COLUMNS, spending);
    }
    if (next !== null) {
      const amount = shownAmount(next.amount_nanos, report.balance.currency);
      print.line(`next top-up  ${amount} on ${next.date}`);
    }
    return EXIT.done;
  },
};

export const budgetTopup: Command = {
  name: "budget topup",
  summary: "Fund a budget",
  positionals: [NAME, { name: "amount", isRequired: true }],
  options: {
    note: { type: "string", value: "<text>", help: "For its statement: who allowed it, and why" },
    json: JSON_OPTION,
  },
  notes: ['Tokens are topped up as "50000 TOK".'],
  async run({ positionals: [name = "", text = ""], options, print, connect }) {
    unitAmount("amount", text, null);
    const client = await connect();
    const path = `budgets/${encodeURIComponent(name)}`;
    const { balance } = await client.get<BudgetReport>(path);
    const amount = unitAmount("amount", text, balance.currency);
    const note = options.text("note");
    const body = note === undefined ? amount : { ...amount, note };
    const budget = await client.post<Budget>(`${path}/topup`, body);
    if (options.flag("json")) print.json(budget);
    else for (const line of balanceLines(budget.balance)) print.line(line);
    return EXIT.done;
  },
};

export const budgetStatement: Command = {
  name: "budget statement",
  summary: "Show what moved in a budget and what it left, newest first",
  positionals: [NAME],
  options: {
    limit: { type: "string", short: "n", value: "<count>", help: "At most so many (20)" },
    before: { type: "string", value: "<cursor>", help: "Go on after this transfer" },
    tokens: { type: "boolean", help: "Of its token budget" },
    csv: { type: "boolean", help: "Print CSV" },
    json: JSON_OPTION,
  },
  async run({ positionals: [name = ""], options, print, connect }) {
    const limit = options.integer("limit", { min: 1, max: 200 }) ?? 20;
    const query = new URLSearchParams({ limit: String(limit) });
    const before = options.text("before");
    if (before !== undefined) query.set("before", before);
    if (options.flag("tokens")) query.set("unit", "tokens");
    const client = await connect();
    const path = `budgets/${encodeURIComponent(name)}/statement?${query}`;
    const statement = await client.get<Statement>(path);
    if (options.flag("json")) print.json(statement);
    else if (options.flag("csv")) print.raw(statementCsv(statement.lines));
    else print.table(statementColumns(statement), statement.lines);
    if (statement.next_cursor !== null) print.note(`more: --before ${statement.next_cursor}`);
    return EXIT.done;
  },
};

export const budgetExport: Command = {
  name: "budget export",
  summary: "Export a project's spend, a line a call, in FOCUS columns or as JSON",
  positionals: [{ name: "project", isRequired: true }],
  options: {
    format: { type: "string", value: "<csv|json>", help: "The format (csv)" },
    since: { type: "string", value: "<date>", help: "From this day or time on" },
    until: { type: "string", value: "<date>", help: "Up to this day or time" },
    path: { type: "string", short: "p", value: "<file>", help: "Write it here" },
    json: { type: "boolean", help: "The same as --format json" },
  },
  async run({ positionals: [project = ""], options, print, config, connect }) {
    const format = options.flag("json") ? "json" : (options.text("format") ?? "csv");
    if (format !== "csv" && format !== "json")
      throw usage(`--format: "${format}" is not csv or json`);
    const query = new URLSearchParams({ format });
    for (const name of ["since", "until"]) {
      const value = options.text(name);
      if (value === undefined) continue;
      if (!DATE.test(value)) throw usage(`--${name}: "${value}" is no day such as 2026-11-21`);
      query.set(name, value);
    }
    const client = await connect();
    const text = await client.text(`budgets/${encodeURIComponent(project)}/export?${query}`);
    const path = options.text("path");
    if (path === undefined) print.raw(text);
    else {
      const file = resolve(config.cwd, path);
      await writeFile(file, text).catch((cause: NodeJS.ErrnoException) => {
        throw new Failure(EXIT.failed, `${file} cannot be written (${cause.code})`, cause);
      });
    }
    return EXIT.done;
  },
};

/** A budget's owner is an id on the wire; people know their projects by name. */
async function balanceColumns(client: Client): Promise<Column<Budget>[]> {
  const { projects } = await client.get<ProjectList>("projects");
  const names = new Map(projects.map(({ id, name }) => [`project/${id}`, name]));
  const amount = (title: "reserved" | "spent" | "available"): Column<Budget> => ({
    title,
    value: ({ balance }) => shownAmount(balance[`${title}_nanos`], balance.currency),
    align: "right",
  });
  return [
    {
      title: "budget",
      value: ({ owner }) => names.get(owner) ?? owner.replace(/^[a-z]+\//, ""),
      shrinks: true,
    },
    amount("reserved"),
    amount("spent"),
    amount("available"),
  ];
}

const LEVEL_COLUMNS: readonly Column<BudgetLevel>[] = [
  { title: "level", value: levelWord, shrinks: true },
  levelAmount("reserved"),
  levelAmount("spent"),
  levelAmount("available"),
  {
    title: "mark",
    value: ({ passed }) => (passed.length === 0 ? "-" : `${passed.at(-1)} %`),
    align: "right",
  },
];

function levelWord({ scope, balance }: BudgetLevel): string {
  return balance.currency === "TOK" ? `${scope} tokens` : scope;
}

function levelAmount(title: "reserved" | "spent" | "available"): Column<BudgetLevel> {
  return {
    title,
    value: ({ balance, is_limited: isLimited }) =>
      title === "available" && !isLimited
        ? "no limit"
        : shownAmount(balance[`${title}_nanos`], balance.currency),
    align: "right",
  };
}

const PACE_COLUMNS: readonly Column<BudgetLevel>[] = [
  { title: "level", value: levelWord, shrinks: true },
  {
    title: "last hour",
    value: ({ burn, balance }) => shownAmount(burn.last_hour_nanos, balance.currency),
    align: "right",
  },
  {
    title: "last day",
    value: ({ burn, balance }) => shownAmount(burn.last_day_nanos, balance.currency),
    align: "right",
  },
  { title: "at this pace", value: outlook },
];

function outlook({ burn }: BudgetLevel): string {
  switch (burn.basis) {
    case "not_limited":
      return "no limit";
    case "exhausted":
      return "used up";
    case "not_enough_history":
      return "too early for a forecast";
    case "not_spending":
      return "not used now";
    case "last_hour":
    case "last_day": {
      if (burn.lasts_the_day) return "lasts the day";
      if (burn.exhausted_at === null) return "lasts for years";
      return `until ${burn.exhausted_at.slice(0, 16)}Z`;
    }
  }
}

function statementColumns({ owner, balance }: Statement): Column<StatementLine>[] {
  const { currency } = balance;
  const other = ({ debit, credit }: StatementLine) => (debit === owner ? credit : debit);
  return [
    { title: "at", value: ({ at }) => at.slice(0, 19) },
    { title: "what", value: movementWord },
    { title: "with", value: (line) => ownerWord(other(line)), shrinks: true },
    {
      title: "amount",
      value: ({ amount_nanos: nanos }) => shownAmount(nanos, currency),
      align: "right",
    },
    {
      title: "available",
      value: ({ available_nanos: nanos }) => (nanos === null ? "" : shownAmount(nanos, currency)),
      align: "right",
    },
    { title: "note", value: ({ note }) => note ?? "", shrinks: true },
  ];
}

function movementWord({ kind, reason }: StatementLine): string {
  switch (kind) {
    case "pending":
      return "reserve";
    case "post":
      return reason === "call" ? "settle" : reason;
    case "void":
      return "release";
    default:
      return reason;
  }
}
