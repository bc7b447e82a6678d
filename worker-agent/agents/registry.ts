/** Every agent there is: one line for each file beside this one that is a plugin. */
import type { Agent } from "./agent.ts";
import { aider } from "./aider.ts";
import { claudeCode } from "./claude-code.ts";
import { codex } from "./codex.ts";
import { opencode } from "./opencode.ts";
import { qwenCode } from "./qwen-code.ts";

export const AGENTS: readonly Agent[] = [qwenCode, claudeCode, aider, codex, opencode];

/** The agent of this name, or null. */
export function findAgent(name: string): Agent | null {
  return AGENTS.find((agent) => agent.facts.name === name) ?? null;
}
