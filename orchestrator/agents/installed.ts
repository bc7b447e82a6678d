/** Agents installed on this machine; how one is installed is its plugin's affair, passed in. */
import type { AgentFacts, AgentStatus, InstallProgress } from "../contract/agents.ts";
import { Problem } from "../problem.ts";
import type { Agents } from "./agents.ts";

/** What compose.ts takes from the worker-agent's registry. */
export interface AgentInstaller {
  facts: readonly AgentFacts[];
  /** @throws Error when it could not be installed, its message for people. */
  install(name: string, onProgress: (progress: InstallProgress) => void): Promise<void>;
  installedVersion(name: string): Promise<string | null>;
}

export function createAgents(installer: AgentInstaller): Agents {
  return { list, install };

  async function list(): Promise<AgentStatus[]> {
    return Promise.all(
      installer.facts.map(async (facts) => ({
        facts,
        installed_version: await installer.installedVersion(facts.name),
      })),
    );
  }

  async function install(
    name: string,
    onProgress: (progress: InstallProgress) => void,
  ): Promise<void> {
    const names = installer.facts.map((facts) => facts.name);
    if (!names.includes(name)) {
      throw new Problem("not_found", `No agent "${name}"; known: ${names.join(", ")}`);
    }
    try {
      await installer.install(name, onProgress);
    } catch (cause) {
      // One line, though an installer's own words may be many.
      const words = (cause as Error).message.trim().replaceAll(/\s+/g, " ");
      const detail = `${name} could not be installed: ${words}`;
      throw new Problem("unavailable", detail.slice(0, 1000), { cause });
    }
  }
}
