/** Agents: what is known of each, and their installation. */
import type { AgentList, AgentStatus, InstallProgress } from "../../contract/agents.ts";
import type { Client } from "../client.ts";
import { type Command, JSON_OPTION } from "../command.ts";
import { EXIT, Failure } from "../failure.ts";
import type { Printer } from "../print.ts";

export const agentLs: Command = {
  name: "agent ls",
  summary: "List agents, their pinned versions, and which are installed",
  options: { json: JSON_OPTION },
  async run({ options, print, connect }) {
    const client = await connect();
    const { agents } = await client.get<AgentList>("agents");
    if (options.flag("json")) {
      print.json(agents);
      return EXIT.done;
    }
    print.table<AgentStatus>(
      [
        { title: "agent", value: ({ facts }) => facts.name },
        { title: "version", value: ({ facts }) => facts.version },
        { title: "installed", value: ({ installed_version: version }) => version ?? "no" },
        { title: "wire", value: ({ facts }) => facts.wire, shrinks: true },
        { title: "pair", value: ({ facts }) => facts.pair_mode },
        { title: "licence", value: ({ facts }) => facts.license, shrinks: true },
      ],
      agents,
    );
    return EXIT.done;
  },
};

export const agentInstall: Command = {
  name: "agent install",
  summary: "Install an agent's pinned version into the data folder",
  positionals: [{ name: "agent", isRequired: true }],
  async run({ positionals: [name = ""], print, connect }) {
    print.line(`${name} ${await installAgent(await connect(), print, name)}`);
    return EXIT.done;
  },
};

/**
 * Installs an agent unless it is there; what it says at the end: its version.
 *
 * @throws Failure when it could not be installed.
 */
export async function installAgent(client: Client, print: Printer, name: string): Promise<string> {
  let last: InstallProgress | null = null;
  const path = `agents/${encodeURIComponent(name)}/install`;
  for await (const progress of client.postForLines<InstallProgress>(path)) {
    print.progress(`${name}: ${progress.step} ${progress.detail}`, progress.step);
    last = progress;
  }
  print.clearProgress();
  if (last?.step === "installed" || last?.step === "already_installed") return last.detail;
  const why = last?.step === "failed" ? last.detail : "the server ended before it was done";
  throw new Failure(EXIT.failed, `${name} was not installed: ${why}`);
}
