/** The orchestrators of one installation. */
import type { Orchestrator, OrchestratorList } from "../../contract/orchestrators.ts";
import { type Command, JSON_OPTION } from "../command.ts";
import { EXIT } from "../failure.ts";

export const orchestratorLs: Command = {
  name: "orchestrator ls",
  summary: "List the orchestrators of this database, and what each of them leads",
  options: { json: JSON_OPTION },
  notes: ["The one that answered is marked with *. A silent one was killed, or is cut off."],
  async run({ options, print, connect }) {
    const client = await connect();
    const { orchestrators } = await client.get<OrchestratorList>("orchestrators");
    if (options.flag("json")) print.json(orchestrators);
    else print.table(COLUMNS, orchestrators);
    return EXIT.done;
  },
};

const COLUMNS = [
  { title: "", value: (row: Orchestrator) => (row.is_this ? "*" : "") },
  { title: "url", value: (row: Orchestrator) => row.url, shrinks: true },
  { title: "host", value: (row: Orchestrator) => row.host, shrinks: true },
  { title: "state", value: (row: Orchestrator) => (row.is_alive ? "alive" : "silent") },
  { title: "leads", value: (row: Orchestrator) => row.duties.join(" ") || "–", shrinks: true },
  { title: "version", value: (row: Orchestrator) => row.version },
];
