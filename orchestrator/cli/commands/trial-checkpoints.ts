/** A trial's checkpoints, and trials that begin with one of them. */
import type { CheckpointTree } from "../../contract/checkpoints.ts";
import type { NewFork, Trial } from "../../contract/trials.ts";
import { type TreeRow, treeRows } from "../checkpoint-rows.ts";
import { type Command, JSON_OPTION } from "../command.ts";
import { amountOption } from "../defaults.ts";
import { EXIT } from "../failure.ts";
import type { Column } from "../print.ts";
import { compact } from "../tables.ts";
import { tellMade } from "./trial-run.ts";

const TRIAL = { name: "trial", isRequired: true };

const COLUMNS: readonly Column<TreeRow>[] = [
  { title: "checkpoint", value: nameOf },
  { title: "cause", value: ({ checkpoint: kept, trial }) => kept?.cause ?? trial.agent },
  { title: "phase", value: ({ checkpoint: kept, trial }) => kept?.phase ?? endOf(trial) },
  { title: "files", value: countOf("file_count"), align: "right" },
  { title: "bytes", value: countOf("byte_count"), align: "right" },
  { title: "new", value: countOf("new_byte_count"), align: "right" },
  { title: "at", value: ({ checkpoint: kept }) => kept?.created_at ?? "" },
];

export const trialCheckpoints: Command = {
  name: "trial checkpoints",
  summary: "List what was kept of a trial, and the trials that grew from it",
  positionals: [TRIAL],
  options: { json: JSON_OPTION },
  notes: ["new: what no earlier checkpoint of the project had; the rest is stored once."],
  async run({ positionals: [id = ""], options, print, connect }) {
    const client = await connect();
    const tree = await client.get<CheckpointTree>(`trials/${encodeURIComponent(id)}/checkpoints`);
    if (options.flag("json")) print.json(tree);
    else print.table(COLUMNS, treeRows(tree));
    return EXIT.done;
  },
};

export const trialFork: Command = {
  name: "trial fork",
  summary: "Begin a new trial with what was kept of this one, and follow it",
  positionals: [TRIAL],
  options: {
    checkpoint: { type: "string", value: "<id>", help: "Begin with this one (the newest)" },
    agent: { type: "string", short: "a", value: "<name>", help: "Another agent" },
    pair: { type: "string", short: "m", value: "<pair>", help: "Another model pair" },
    limit: { type: "string", value: "<amount>", help: "The most it may cost (as its parent)" },
    "wall-ms": { type: "string", value: "<ms>", help: "The longest the agent may work" },
    detach: { type: "boolean", short: "d", help: "Do not wait for its end" },
    json: JSON_OPTION,
  },
  notes: [
    "It has a budget of its own. Another agent goes on from the files and the plan, but begins a",
    "conversation of its own.",
  ],
  async run({ positionals: [id = ""], options, print, connect }) {
    const [checkpoint, agent, pair] = ["checkpoint", "agent", "pair"].map(options.text);
    const limit = options.text("limit");
    const wallMs = options.integer("wall-ms", { min: 1_000, max: 604_800_000 });
    const fork: NewFork = {
      ...(checkpoint !== undefined && { checkpoint_id: checkpoint }),
      ...(agent !== undefined && { agent }),
      ...(pair !== undefined && { pair }),
      ...(limit !== undefined && { limit_nanos: amountOption("--limit", limit) }),
      ...(wallMs !== undefined && { wall_ms: wallMs }),
    };
    const client = await connect();
    const made = await client.post<Trial>(`trials/${encodeURIComponent(id)}/fork`, fork);
    const about = `${made.id}: ${made.agent} with ${made.pair} on ${made.task}, from ${id}`;
    return tellMade({ options, print }, client, made, about);
  },
};

function nameOf({ depth, trial, checkpoint }: TreeRow): string {
  return `${"│ ".repeat(depth)}${checkpoint === null ? trial.id : `├ ${checkpoint.id}`}`;
}

function endOf({ state, verdict }: TreeRow["trial"]): string {
  return verdict ?? state;
}

function countOf(field: "file_count" | "byte_count" | "new_byte_count") {
  return ({ checkpoint }: TreeRow) => (checkpoint === null ? "" : compact(checkpoint[field]));
}
