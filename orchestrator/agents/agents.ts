/** The agents port: the catalogue of coding CLIs, and their installations on this machine. */
import type { AgentStatus, InstallProgress } from "../contract/agents.ts";

export interface Agents {
  list(): Promise<AgentStatus[]>;
  /** Installs the pinned version; each step is reported. @throws Problem `not_found`. */
  install(name: string, onProgress: (progress: InstallProgress) => void): Promise<void>;
}
