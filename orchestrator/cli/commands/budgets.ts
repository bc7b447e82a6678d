/** Budgets: a project's by its name, a trial's by its id. */
import { writeFile } from "node:fs/promises";
import { resolve } from "node:path";
import type { Budget, BudgetList, Statement, StatementLine } from "../../contract/budgets.ts";
import type { ProjectList } from "../../contract/projects.ts";
import type { Client } from "../client.ts";
import { type Command, JSON_OPTION } from "../command.ts";
import { amountOption, shownAmount } from "../defaults.ts";
import { EXIT, Failure, usage } from "../failure.ts";
import type { Column } from "../print.ts";
import { balanceLines } from "../tables.ts";

const DATE = /^\d{4}-\d{2}-\d{2}(T\S+)?$/;
const NAME = { name: "project|trial", isRequired: true };

export const budgetShow: Command = {
  name: "budget show",
  summary: "Show what a budget was given, holds reserved, has spent and has left",
  positionals: [{ name: "project|trial", isRequired: false }],
  options: { json: JSON_OPTION },
  async run({ positionals: [name], options, print, connect }) {
    const client = await connect();
    if (name === undefined) {
      const { budgets } = await client.get<BudgetList>("budgets");
      if (options.flag("json")) print.json(budgets);
      else print.table(await balanceColumns(client), budgets);
      return EXIT.done;
    }
    const budget = await client.get<Budget>(`budgets/${encodeURIComponent(name)}`);
    if (options.flag("json")) print.json(budget);
    else for (const line of balanceLines(budget.balance)) print.line(line);
    return EXIT.done;
  },
};

export const budgetTopup: Command = {
  name: "budget topup",
  summary: "Fund a budget",
  positionals: [NAME, { name: "amount", isRequired: true }],
  options: { json: JSON_OPTION },
  async run({ positionals: [name = "", text = ""], options, print, connect }) {
    const [amount = "", unit, ...rest] = text.split(" ");
    if (rest.length > 0) throw usage(`amount: "${text}" is not an amount, such as 12.50`);
    const amountNanos = amountOption("amount", amount);
    const client = await connect();
    const path = `budgets/${encodeURIComponent(name)}`;
    const { balance } = await client.get<Budget>(path);
    if (unit !== undefined && unit !== balance.currency) {
      throw usage(`amount: this budget is in ${balance.currency}, not in ${unit}`);
    }
    const body = { amount_nanos: amountNanos, currency: balance.currency };
    const budget = await client.post<Budget>(`${path}/topup`, body);
    if (options.flag("json")) print.json(budget);
    else for (const line of balanceLines(budget.balance)) print.line(line);
    return EXIT.done;
  },
};

export const budgetStatement: Command = {
  name: "budget statement",
  summary: "Show what moved in a budget, newest first",
  positionals: [NAME],
  options: {
    limit: { type: "string", short: "n", value: "<count>", help: "At most so many (20)" },
    before: { type: "string", value: "<cursor>", help: "Go on after this transfer" },
    json: JSON_OPTION,
  },
  async run({ positionals: [name = ""], options, print, connect }) {
    const limit = options.integer("limit", { min: 1, max: 200 }) ?? 20;
    const query = new URLSearchParams({ limit: String(limit) });
    const before = options.text("before");
    if (before !== undefined) query.set("before", before);
    const client = await connect();
    const path = `budgets/${encodeURIComponent(name)}/statement?${query}`;
    const statement = await client.get<Statement>(path);
    if (options.flag("json")) {
      print.json(statement);
      return EXIT.done;
    }
    const { currency } = statement.balance;
    print.table<StatementLine>(
      [
        { title: "at", value: ({ at }) => at.slice(0, 19) },
        { title: "kind", value: ({ kind }) => kind },
        { title: "reason", value: ({ reason }) => reason, shrinks: true },
        { title: "from", value: ({ debit }) => debit, shrinks: true },
        { title: "to", value: ({ credit }) => credit, shrinks: true },
        {
          title: "amount",
          value: ({ amount_nanos: nanos }) => shownAmount(nanos, currency),
          align: "right",
        },
      ],
      statement.lines,
    );
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
