/** Traffic held against the ledger: alarms and their answers, and the daily reconciliation. */
import type {
  Reconciliation,
  ReconciliationReport,
  UnmatchedCall,
  UnmatchedCallList,
} from "../../contract/accounting.ts";
import { type Command, JSON_OPTION } from "../command.ts";
import { EXIT, usage } from "../failure.ts";
import type { Column, Printer } from "../print.ts";
import { compact } from "../tables.ts";

export const trafficUnmatched: Command = {
  name: "traffic unmatched",
  summary: "List paid calls that no entry of the ledger is for; answer one",
  positionals: [
    { name: "answer", isRequired: false },
    { name: "flow", isRequired: false },
  ],
  options: {
    because: { type: "string", value: "<text>", help: "With `answer <flow>`: what was found out" },
    all: { type: "boolean", help: "Those that were answered too" },
    json: JSON_OPTION,
  },
  notes: [
    "Each is an alarm until it is answered: traffic unmatched answer <flow> --because <text>.",
    "A call's id instead of a flow's: it was paid, and nothing is recorded of it.",
  ],
  async run({ positionals: [verb, id], options, print, connect }) {
    if (verb !== undefined) {
      if (verb !== "answer" || id === undefined) {
        throw usage("say: traffic unmatched answer <flow> --because <text>");
      }
      const body = { because: options.required("because") };
      const client = await connect();
      const path = `traffic/unmatched/${encodeURIComponent(id)}/answer`;
      const answered = await client.post<UnmatchedCall>(path, body);
      if (options.flag("json")) print.json(answered);
      else print.line(`${answered.id} is answered`);
      return EXIT.done;
    }
    const client = await connect();
    const query = options.flag("all") ? "?answered=true" : "";
    const { unmatched } = await client.get<UnmatchedCallList>(`traffic/unmatched${query}`);
    if (options.flag("json")) print.json(unmatched);
    else for (const each of unmatched) tellAlarm(print, each);
    return unmatched.some(({ answered_at: at }) => at === null) ? EXIT.failed : EXIT.done;
  },
};

/** Two lines: what it is and of whom, then why. */
function tellAlarm(print: Printer, alarm: UnmatchedCall): void {
  const { id, trial_id: trialId, host, detail, found_at: at, answer } = alarm;
  print.line(`${id}  ${at.slice(0, 19)}  ${host}${trialId === null ? "" : `  ${trialId}`}`);
  print.line(`  ${detail}`);
  if (answer !== null) print.line(`  answered: ${answer}`);
}

const RECONCILE_COLUMNS: readonly Column<Reconciliation>[] = [
  { title: "day", value: ({ day }) => day },
  { title: "provider", value: ({ provider }) => provider },
  { title: "model", value: ({ model }) => model, shrinks: true },
  { title: "in", value: (row) => compact(row.our_input_tokens), align: "right" },
  { title: "theirs", value: (row) => compact(row.their_input_tokens), align: "right" },
  { title: "out", value: (row) => compact(row.our_output_tokens), align: "right" },
  { title: "theirs", value: (row) => compact(row.their_output_tokens), align: "right" },
  { title: "", value: ({ is_matched: isMatched }) => (isMatched ? "ok" : "differs") },
  { title: "what", value: ({ detail }) => detail, shrinks: true },
];

export const trafficReconcile: Command = {
  name: "traffic reconcile",
  summary: "Compare our settled tokens with what providers and engines counted",
  options: {
    day: { type: "string", value: "<date>", help: "Ask and compare this day now: 2026-11-21, UTC" },
    json: JSON_OPTION,
  },
  notes: [
    "Without --day: what was compared in the last 30 days. Exit status 1 when something differs by",
    "more than one in a hundred and 2,000 tokens.",
  ],
  async run({ options, print, connect }) {
    const day = options.text("day");
    const client = await connect();
    const path = "traffic/reconciliations";
    const report =
      day === undefined
        ? await client.get<ReconciliationReport>(path)
        : await client.post<ReconciliationReport>(path, { day });
    if (options.flag("json")) print.json(report);
    else {
      print.table(RECONCILE_COLUMNS, report.rows);
      for (const { provider, fault } of report.sources) {
        if (fault !== null) print.note(`${provider}: ${fault}`);
      }
    }
    return report.rows.every(({ is_matched: isMatched }) => isMatched) ? EXIT.done : EXIT.failed;
  },
};
