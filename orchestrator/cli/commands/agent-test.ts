/** `autocode agent test`: one trial of an agent on a tiny task, and what it showed it can do. */
import { join } from "node:path";
import type { AgentList } from "../../contract/agents.ts";
import type { ArtefactList } from "../../contract/artefacts.ts";
import type { Call, CallList } from "../../contract/calls.ts";
import type { EventPage, TrialEvent } from "../../contract/events.ts";
import type { Project } from "../../contract/projects.ts";
import type { Trial } from "../../contract/trials.ts";
import type { Client } from "../client.ts";
import { type Command, JSON_OPTION } from "../command.ts";
import { PROJECT_FILE, readProjectFile } from "../defaults.ts";
import { EXIT, Failure } from "../failure.ts";
import { adviceFor, exitOfTrial, followTrial } from "../follow.ts";
import { compact, duration, inputTokens, spent, verdictWord } from "../tables.ts";
import { installAgent } from "./agents.ts";

const FOLDER = "examples/agent-test";

export const agentTest: Command = {
  name: "agent test",
  summary: "Run an agent against the scripted model on a tiny task, and report what it can do",
  positionals: [{ name: "agent", isRequired: true }],
  options: { json: JSON_OPTION },
  notes: ["The model is a script that stands in for a real one: it costs a pretended price."],

  async run({ positionals: [agent = ""], options, print, config, connect }) {
    const client = await connect();
    const version = await installAgent(client, print, agent);
    const folder = join(config.rootDir, FOLDER);
    const project = await client.post<Project>(
      "projects",
      await readProjectFile(folder, PROJECT_FILE),
    );
    const [pair] = project.pairs;
    const [task] = project.tasks;
    if (pair === undefined || task === undefined) {
      throw new Failure(EXIT.failed, `${FOLDER}/${PROJECT_FILE} names no pair or no task`);
    }
    const spec = { project: project.name, agent, pair, task };
    const made = await client.post<Trial>("trials", spec);
    print.note(`${made.id}: ${agent} with ${pair} on ${task}`);
    const trial = await followTrial(client, print, made);
    const findings = await findingsOf(client, { agent, version, trial });
    if (options.flag("json")) print.json({ trial: trial.id, ...findings });
    else {
      for (const [name, value] of Object.entries(findings)) {
        print.line(`${name.replaceAll("_", " ").padEnd(16)}  ${value}`);
      }
    }
    const advice = adviceFor(trial);
    if (advice !== null) print.note(advice);
    return exitOfTrial(trial);
  },
};

/** What the trial's records show. Each is what was seen, not what the agent claims of itself. */
async function findingsOf(
  client: Client,
  { agent, version, trial }: { agent: string; version: string; trial: Trial },
): Promise<Record<string, string>> {
  const { agents } = await client.get<AgentList>("agents");
  const { calls } = await client.get<CallList>(`trials/${trial.id}/calls`);
  const { artefacts } = await client.get<ArtefactList>(`trials/${trial.id}/artefacts`);
  const events = await allEvents(client, trial.id);
  const facts = agents.find((each) => each.facts.name === agent)?.facts;
  const bytes = (name: string) =>
    artefacts.find((artefact) => artefact.name === name)?.byte_count ?? 0;
  const phases = ofType(events, "phase.started").map(
    ({ data }) => `${String(data["phase"])} (${String(data["side"])})`,
  );
  const refused = ofType(events, "egress.refused").map(({ data }) => String(data["host"]));
  const failed = calls.filter(({ status }) => status >= 400);
  return {
    version: facts === undefined ? version : `${version} (pinned ${facts.version})`,
    wire: facts?.wire ?? "unknown",
    phases: phases.join(", ") || "none seen",
    model_sides: sidesOf(calls),
    calls: `${calls.length}, ${failed.length} refused or failed`,
    tools: toolsOf(events),
    edits: bytes("changes.patch") > 0 ? `yes, a patch of ${bytes("changes.patch")} bytes` : "none",
    terminal: bytes("terminal.cast") > 0 ? "recorded" : "nothing recorded",
    egress_refused:
      refused.length === 0 ? "0" : `${refused.length} (${[...new Set(refused)].join(", ")})`,
    tokens: `${compact(inputTokens(trial.usage))} in, ${compact(trial.usage.output_tokens)} out`,
    cost: spent(trial),
    time: duration(trial.duration_ms),
    verdict: verdictWord(trial),
  };
}

function sidesOf(calls: readonly Call[]): string {
  const sides = ["thinking", "normal"] as const;
  const seen = sides.map((side) => `${side} ${calls.filter((call) => call.side === side).length}`);
  const isBoth = sides.every((side) => calls.some((call) => call.side === side));
  return `${seen.join(", ")}${isBoth ? "" : " (not both)"}`;
}

function toolsOf(events: readonly TrialEvent[]): string {
  const counts = new Map<string, number>();
  for (const { data } of ofType(events, "agent.tool_call")) {
    const name = String(data["name"]);
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  return [...counts].map(([name, count]) => `${name} ${count}`).join(", ") || "none seen";
}

function ofType(events: readonly TrialEvent[], type: TrialEvent["type"]): TrialEvent[] {
  return events.filter((event) => event.type === type);
}

async function allEvents(client: Client, id: string): Promise<TrialEvent[]> {
  const events: TrialEvent[] = [];
  for (let after = 0; ; ) {
    const page = await client.get<EventPage>(`trials/${id}/events?after_seq=${after}&limit=1000`);
    if (page.events.length === 0) return events;
    events.push(...page.events);
    after = page.next_after_seq;
  }
}
