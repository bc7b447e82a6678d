/** The other commands of a trial: what it is, what it said, and its end. */
import type { ApprovalList } from "../../contract/approvals.ts";
import type { Artefact, ArtefactList } from "../../contract/artefacts.ts";
import type { Divergence } from "../../contract/cassettes.ts";
import type { TrialEngineList } from "../../contract/engines.ts";
import type { EventPage, TrialEvent } from "../../contract/events.ts";
import type { FlowTotals } from "../../contract/flows.ts";
import type { Trial, TrialPage } from "../../contract/trials.ts";
import { formatNanos } from "../../money.ts";
import type { Client } from "../client.ts";
import { type Command, JSON_OPTION, type Values } from "../command.ts";
import { engineLines } from "../engine-text.ts";
import { EXIT, Failure, usage } from "../failure.ts";
import { byteText } from "../flow-rows.ts";
import { adviceFor, exitOfTrial, followTrial } from "../follow.ts";
import { safeTerminal } from "../safe-text.ts";
import { LIST_COLUMNS, RESULT_COLUMNS } from "../tables.ts";
import { showApproval } from "./approvals.ts";

const TRIAL = { name: "trial", isRequired: true };

export const trialLs: Command = {
  name: "trial ls",
  summary: "List trials, newest first",
  options: {
    project: { type: "string", value: "<name>", help: "Of this project" },
    state: { type: "string", value: "<state>", help: "In this state: running, paused, failed, …" },
    limit: { type: "string", short: "n", value: "<count>", help: "At most so many (20)" },
    json: JSON_OPTION,
  },
  async run({ options, print, connect }) {
    const limit = options.integer("limit", { min: 1, max: 200 }) ?? 20;
    const query = new URLSearchParams({ limit: String(limit) });
    for (const name of ["project", "state"]) {
      const value = options.text(name);
      if (value !== undefined) query.set(name, value);
    }
    const client = await connect();
    const page = await client.get<TrialPage>(`trials?${query}`);
    if (options.flag("json")) print.json(page.trials);
    else print.table(LIST_COLUMNS, page.trials);
    return EXIT.done;
  },
};

export const trialShow: Command = {
  name: "trial show",
  summary: "Show a trial: its state, verdict, cost and what it left behind",
  positionals: [TRIAL],
  options: { json: JSON_OPTION },
  async run({ positionals: [id = ""], options, print, connect }) {
    const client = await connect();
    const trial = await client.get<Trial>(`trials/${encodeURIComponent(id)}`);
    const { engines } = await client.get<TrialEngineList>(`trials/${trial.id}/engines`);
    if (options.flag("json")) {
      print.json({ ...trial, engines });
      return EXIT.done;
    }
    const { artefacts } = await client.get<ArtefactList>(`trials/${trial.id}/artefacts`);
    print.line(`${trial.id}  ${trial.state}  project ${trial.project}, attempt ${trial.attempt}`);
    print.table(RESULT_COLUMNS, [trial]);
    if (trial.flags.length > 0) print.line(`flags: ${trial.flags.join(", ")}`);
    if (trial.forked_from !== null) print.line(`forked from ${trial.forked_from}`);
    if (trial.replay_of !== null) await tellReplay(trial, trial.replay_of, client.get, print);
    if (trial.is_scripted) print.line("models: scripted, which stand in for real ones");
    if (trial.swap_nanos !== undefined && trial.budget !== null) {
      const cost = formatNanos(BigInt(trial.swap_nanos), trial.budget.currency);
      print.line(`of its cost: ${cost} for swaps of models that it waited for`);
    }
    print.line(await trafficLine(client, trial.id));
    for (const line of engineLines(engines)) print.line(line);
    const advice = adviceFor(trial);
    if (advice !== null) print.line(advice);
    if (trial.approval_id !== null) {
      const { approvals } = await client.get<ApprovalList>(`approvals?trial_id=${trial.id}`);
      const open = approvals.find(({ id }) => id === trial.approval_id);
      if (open !== undefined) showApproval(print, open);
    }
    print.table<Artefact>(
      [
        { title: "artefact", value: ({ name }) => name, shrinks: true },
        { title: "bytes", value: ({ byte_count: bytes }) => String(bytes), align: "right" },
        { title: "updated", value: ({ updated_at: at }) => at },
      ],
      artefacts,
    );
    return EXIT.done;
  },
};

export const trialLogs: Command = {
  name: "trial logs",
  summary: "Print a trial's events, or with --worker what its worker printed",
  positionals: [TRIAL],
  options: {
    follow: { type: "boolean", short: "f", help: "Go on until the trial, or the worker, ends" },
    json: { type: "boolean", help: "Print one JSON a line" },
    worker: { type: "boolean", help: "The newest worker's own log, without secrets" },
    stdout: { type: "boolean", help: "Of the worker: its standard output alone" },
    stderr: { type: "boolean", help: "Of the worker: its standard error alone" },
    allocation: { type: "string", value: "<id>", help: "Of this worker instead of the newest" },
  },
  notes: ["The agent's own output is among the events, and in `trial attach`."],
  async run({ positionals: [id = ""], options, print, connect }) {
    const query = workerLogQuery(options);
    const client = await connect();
    if (query !== null) {
      const log = `trials/${encodeURIComponent(id)}/worker-log?${query}`;
      await print.pourText(await client.bytes(log));
      return EXIT.done;
    }
    const path = `trials/${encodeURIComponent(id)}/events`;
    const show = (event: TrialEvent) =>
      options.flag("json")
        ? print.raw(`${JSON.stringify(event)}\n`)
        : print.line(`${event.at}  ${event.type}  ${factsOf(event.data)}`);
    if (options.flag("follow")) {
      for await (const { data } of client.events(path)) show(JSON.parse(data) as TrialEvent);
      return EXIT.done;
    }
    for (let after = 0; ; ) {
      const page = await client.get<EventPage>(`${path}?after_seq=${after}&limit=1000`);
      for (const event of page.events) show(event);
      if (page.events.length === 0) return EXIT.done;
      after = page.next_after_seq;
    }
  },
};

/** Null: the events are asked for. @throws Failure: usage */
function workerLogQuery(options: Values): URLSearchParams | null {
  const [stdout, stderr] = [options.flag("stdout"), options.flag("stderr")];
  const allocation = options.text("allocation");
  if (!options.flag("worker")) {
    if (!stdout && !stderr && allocation === undefined) return null;
    throw usage("--stdout, --stderr and --allocation are of a worker's log: add --worker");
  }
  if (options.flag("json")) throw usage("--json is for events: leave it or --worker out");
  const query = new URLSearchParams();
  if (options.flag("follow")) query.set("follow", "true");
  if (stdout !== stderr) query.set("output", stdout ? "stdout" : "stderr");
  if (allocation !== undefined) query.set("allocation_id", allocation);
  return query;
}

export const trialAttach: Command = {
  name: "trial attach",
  summary: "Watch a trial's terminal, from its start",
  positionals: [TRIAL],
  notes: ["Colours are shown; what would move the cursor or reach your terminal is cut out."],
  async run({ positionals: [id = ""], print, connect }) {
    const client = await connect();
    for await (const { data } of client.events(`trials/${encodeURIComponent(id)}/terminal`)) {
      print.raw(outputOf(data));
    }
    if (print.isTty) print.raw("\u001b[0m\n");
    return EXIT.done;
  },
};

export const trialStop: Command = {
  name: "trial stop",
  summary: "Ask for a trial's end",
  positionals: [TRIAL],
  async run({ positionals: [id = ""], print, connect }) {
    const client = await connect();
    const trial = await client.post<Trial>(`trials/${encodeURIComponent(id)}/stop`);
    print.line(`${trial.id}  ${trial.state}`);
    return EXIT.done;
  },
};

export const trialResume: Command = {
  name: "trial resume",
  summary: "Go on with a paused trial, and follow it",
  positionals: [TRIAL],
  options: {
    detach: { type: "boolean", short: "d", help: "Do not wait for its end" },
    json: JSON_OPTION,
  },
  async run({ positionals: [id = ""], options, print, connect }) {
    const client = await connect();
    const { next_after_seq: seen } = await lastPage(client.get, id);
    const resumed = await client.post<Trial>(`trials/${encodeURIComponent(id)}/resume`);
    if (options.flag("detach")) {
      print.line(`${resumed.id}  ${resumed.state}`);
      return EXIT.done;
    }
    const ended = await followTrial(client, print, resumed, seen);
    if (options.flag("json")) print.json(ended);
    else print.table(RESULT_COLUMNS, [ended]);
    const advice = adviceFor(ended);
    if (advice !== null) print.note(advice);
    return exitOfTrial(ended);
  },
};

export const trialDiff: Command = {
  name: "trial diff",
  summary: "Print what the agent changed, as a patch",
  positionals: [TRIAL],
  async run({ positionals: [id = ""], print, connect }) {
    const client = await connect();
    const patch = await client.text(`trials/${encodeURIComponent(id)}/diff`);
    printDocument(print, patch);
    return EXIT.done;
  },
};

export const trialTrajectory: Command = {
  name: "trial trajectory",
  summary: "Print a trial's trajectory, in ATIF",
  positionals: [TRIAL],
  async run({ positionals: [id = ""], print, connect }) {
    const client = await connect();
    print.json(await client.get<unknown>(`trials/${encodeURIComponent(id)}/trajectory`));
    return EXIT.done;
  },
};

/** Whether it did as was recorded; else the first difference. */
async function tellReplay(
  { id, flags }: Trial,
  source: string,
  get: <Answer>(path: string) => Promise<Answer>,
  print: Parameters<Command["run"]>[0]["print"],
): Promise<void> {
  const of = source === id ? "a cassette" : source;
  if (!flags.includes("replay_diverged")) {
    print.line(`replay of ${of}: its record answered everything so far`);
    return;
  }
  for (let after = 0; ; ) {
    const page = await get<EventPage>(`trials/${id}/events?after_seq=${after}&limit=1000`);
    const found = page.events.find(({ type }) => type === "replay.diverged");
    if (found !== undefined) {
      const { position, expected, asked } = found.data as Divergence;
      print.line(`replay of ${of}, which it left at exchange ${position}`);
      print.line(`  recorded  ${expected.replaceAll(/\s+/g, " ")}`);
      print.line(`  asked     ${asked.replaceAll(/\s+/g, " ")}`);
    }
    if (found !== undefined || page.events.length === 0) return;
    after = page.next_after_seq;
  }
}

/** What it sent and got, in one line; a store that is away says so and hides nothing else. */
async function trafficLine({ get }: Client, trialId: string): Promise<string> {
  try {
    const path = `flows/totals?by=trial&trial_id=${encodeURIComponent(trialId)}`;
    const [total] = (await get<FlowTotals>(path)).groups;
    if (total === undefined) return "traffic: none recorded";
    const { flow_count: flows, refused_count: refused } = total;
    const bytes = `${byteText(total.sent_bytes)} sent, ${byteText(total.received_bytes)} received`;
    return `traffic: ${flows} ${flows === 1 ? "flow" : "flows"}, ${refused} refused, ${bytes}`;
  } catch (error) {
    if (!(error instanceof Failure) || error.exit !== EXIT.unavailable) throw error;
    return `traffic: not known now: ${error.message}`;
  }
}

/** Byte for byte into a file or a pipe; on a terminal, without what a terminal would obey. */
function printDocument(print: Parameters<Command["run"]>[0]["print"], text: string): void {
  if (process.stdout.isTTY === true) print.line(text.replace(/\n$/, ""));
  else print.raw(text);
}

/** The newest event's seq, so that a resumed trial's earlier pause is not taken for its end. */
async function lastPage(
  get: <Answer>(path: string) => Promise<Answer>,
  id: string,
): Promise<EventPage> {
  for (let after = 0; ; ) {
    const path = `trials/${encodeURIComponent(id)}/events?after_seq=${after}&limit=1000`;
    const page = await get<EventPage>(path);
    if (page.events.length === 0) return page;
    after = page.next_after_seq;
  }
}

/** The output of one line of an asciicast; nothing for its header and its other events. */
function outputOf(line: string): string {
  let parsed: unknown;
  try {
    parsed = JSON.parse(line);
  } catch {
    return "";
  }
  if (!Array.isArray(parsed) || parsed[1] !== "o") return "";
  return safeTerminal(String(parsed[2]));
}

function factsOf(data: TrialEvent["data"]): string {
  return Object.entries(data)
    .map(([name, value]) => `${name}=${typeof value === "string" ? value : JSON.stringify(value)}`)
    .join(" ")
    .replaceAll(/\s+/g, " ");
}
