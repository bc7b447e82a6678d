/** Approvals: what waits for a person, and the answer. */
import type {
  Approval,
  ApprovalFacts,
  ApprovalList,
  Approve,
  EgressRuleFacts,
  Reject,
} from "../../contract/approvals.ts";
import { formatNanos } from "../../money.ts";
import type { Client } from "../client.ts";
import { type Command, JSON_OPTION } from "../command.ts";
import { amountOption, shownAmount } from "../defaults.ts";
import { EXIT, usage } from "../failure.ts";
import type { Column, Printer } from "../print.ts";

const APPROVAL = { name: "approval|trial", isRequired: true };
const HASH = {
  type: "string",
  value: "<sha256>",
  help: "Answer only what has this content (approval show tells it)",
} as const;

export const approvalLs: Command = {
  name: "approval ls",
  summary: "List what waits for an answer, the longest waiting first",
  options: {
    project: { type: "string", value: "<name>", help: "Of this project" },
    all: { type: "boolean", short: "a", help: "Also what was answered" },
    json: JSON_OPTION,
  },
  async run({ options, print, connect }) {
    const query = new URLSearchParams(options.flag("all") ? {} : { state: "open" });
    const project = options.text("project");
    if (project !== undefined) query.set("project", project);
    const client = await connect();
    const { approvals } = await client.get<ApprovalList>(`approvals?${query}`);
    if (options.flag("json")) print.json(approvals);
    else print.table(COLUMNS, approvals);
    return EXIT.done;
  },
};

export const approvalShow: Command = {
  name: "approval show",
  summary: "Show what is asked: what it cost, what it lacks, what it will probably take",
  positionals: [APPROVAL],
  options: { json: JSON_OPTION },
  async run({ positionals: [name = ""], options, print, connect }) {
    const approval = await find(await connect(), name);
    if (options.flag("json")) print.json(approval);
    else showApproval(print, approval);
    return EXIT.done;
  },
};

export const approvalApprove: Command = {
  name: "approval approve",
  summary: "Top up the budget that was short and go on, or let the rules of egress stand",
  positionals: [APPROVAL],
  options: {
    amount: { type: "string", value: "<amount>", help: "So much instead of what is suggested" },
    hash: HASH,
    json: JSON_OPTION,
  },
  async run({ positionals: [name = ""], options, print, connect }) {
    const amount = options.text("amount");
    const client = await connect();
    const asked = await find(client, name);
    const body: Approve = {
      content_sha256: options.text("hash") ?? asked.content_sha256,
      ...(amount === undefined ? {} : { amount_nanos: amountIn(asked, amount) }),
    };
    const approval = await client.post<Approval>(`approvals/${asked.id}/approve`, body);
    if (options.flag("json")) print.json(approval);
    else if (approval.egress !== null) {
      print.line(`${approval.id}  granted: the rules stand in the policy of ${approval.project}`);
      print.line(approval.egress.yaml.trimEnd());
      print.note(
        "Add these lines to the project's file: applied without them, it drops the rules.",
      );
    } else {
      const unit = unitOf(approval);
      const amountShown = shownAmount(approval.topped_up_nanos ?? "0", unit);
      print.line(`${approval.id}  granted, ${amountShown} more; ${approval.trial_id} goes on`);
    }
    return EXIT.done;
  },
};

export const approvalReject: Command = {
  name: "approval reject",
  summary: "Cancel the trial instead, or add no rules, and say why",
  positionals: [APPROVAL],
  options: {
    reason: { type: "string", value: "<text>", help: "Why; kept with the trial" },
    hash: HASH,
    json: JSON_OPTION,
  },
  async run({ positionals: [name = ""], options, print, connect }) {
    const reason = options.text("reason");
    if (reason === undefined || reason.trim() === "") throw usage("--reason is missing: say why");
    const client = await connect();
    const asked = await find(client, name);
    const body: Reject = { content_sha256: options.text("hash") ?? asked.content_sha256, reason };
    const approval = await client.post<Approval>(`approvals/${asked.id}/reject`, body);
    if (options.flag("json")) print.json(approval);
    else if (approval.egress !== null) print.line(`${approval.id}  rejected; no rule is added`);
    else print.line(`${approval.id}  rejected; ${approval.trial_id} is cancelled`);
    return EXIT.done;
  },
};

const COLUMNS: readonly Column<Approval>[] = [
  { title: "approval", value: ({ id }) => id },
  { title: "asks for", value: ({ kind }) => (kind === "budget" ? "money" : "egress") },
  { title: "state", value: ({ state }) => state },
  {
    title: "spent",
    value: ({ facts }) =>
      facts === null ? "-" : formatNanos(BigInt(facts.spent_nanos), facts.currency),
    align: "right",
  },
  {
    title: "suggested",
    value: (approval) =>
      approval.facts === null ? "-" : shownAmount(approval.facts.suggested_nanos, unitOf(approval)),
    align: "right",
  },
];

/** By its own id, or the newest of a trial. */
async function find(client: Client, name: string): Promise<Approval> {
  if (!name.startsWith("trial_")) {
    return client.get<Approval>(`approvals/${encodeURIComponent(name)}`);
  }
  const query = new URLSearchParams({ trial_id: name });
  const { approvals } = await client.get<ApprovalList>(`approvals?${query}`);
  const newest = approvals.at(-1);
  if (newest === undefined) throw usage(`${name} asks for no approval`);
  return newest;
}

function unitOf({ facts }: Approval): string {
  return facts?.shortage?.unit ?? facts?.currency ?? "CAD";
}

/** Tokens are counted, money has decimals. */
function amountIn(approval: Approval, text: string): string {
  if (unitOf(approval) !== "TOK") return amountOption("--amount", text);
  if (/^[1-9]\d{0,14}$/.test(text)) return text;
  throw usage(`--amount: "${text}" is not a number of tokens, such as 50000`);
}

/** What is asked, or was. */
export function showApproval(print: Printer, approval: Approval): void {
  const { facts } = approval;
  print.line(`${approval.id}  ${approval.state}`);
  print.line(`trial       ${approval.trial_id}  ${approval.project}`);
  if (facts !== null) for (const line of factLines(facts)) print.line(line);
  if (approval.egress !== null) {
    for (const line of ruleLines(approval.egress)) print.line(line);
  }
  if (approval.reason !== null) print.line(`reason      ${approval.reason}`);
  if (approval.topped_up_nanos !== null) {
    print.line(`topped up   ${shownAmount(approval.topped_up_nanos, unitOf(approval))}`);
  }
  print.line(`content     ${approval.content_sha256}`);
}

function ruleLines({ diff, note, yaml }: EgressRuleFacts): string[] {
  return [...diff.trimEnd().split("\n"), note, ...yaml.trimEnd().split("\n")];
}

function factLines(facts: ApprovalFacts): string[] {
  const { currency, shortage, forecast, checkpoint } = facts;
  const money = (nanos: string) => shownAmount(nanos, currency);
  const unit = (nanos: string) => shownAmount(nanos, shortage?.unit ?? currency);
  const { files_changed: files, lines_added: added, lines_removed: removed } = checkpoint;
  const session = checkpoint.has_session ? "its conversation" : "no conversation";
  const { confidence_percent: sure, evidence_count: count } = forecast ?? {};
  const like = forecast?.basis === "finished_trials" ? "trials like it" : "its own calls";
  return [
    `spent       ${money(facts.spent_nanos)} of ${money(facts.limit_nanos)}`,
    ...(shortage === null
      ? []
      : [
          `short       the ${shortage.level}'s budget: ${unit(shortage.available_nanos)} is left`,
          `next call   may take ${unit(shortage.required_nanos)}`,
        ]),
    ...(forecast === null
      ? ["to finish   not enough evidence"]
      : [
          `to finish   ${unit(forecast.low_nanos)} to ${unit(forecast.high_nanos)} more`,
          ...(forecast.swap_nanos === undefined
            ? []
            : [`            at most with ${unit(forecast.swap_nanos)} for loading its pair again`]),
          `            ${sure} % sure, from ${count} of ${like}`,
        ]),
    `suggested   ${unit(facts.suggested_nanos)}`,
    `kept        ${files} changed files (+${added} -${removed}), ${session}`,
  ];
}
