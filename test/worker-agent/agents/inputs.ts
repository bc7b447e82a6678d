/** One plan's input, the same for every agent, so that their plans compare. */
import type { PlanInput } from "../../../worker-agent/agents/agent.ts";

export const INPUT: PlanInput = {
  instruction: `--version "it's" $(id) -- /help\nsecond line with a \0 in it`,
  gatewayUrl: "http://127.0.0.1:8000",
  virtualKey: "vk-secret-of-this-trial",
  models: { normal: "normal-model", thinking: "thinking-model" },
  contextTokens: 32_768,
  maxOutputTokens: 4_096,
  home: "/trial/home",
  tmp: "/trial/tmp",
  workdir: "/trial/work",
  installDir: "/agents/one/1.0.0",
  sessionId: "5b0f4d50-9a1c-4f3a-8a1d-2b110a7c9a9e",
  testCommand: "npm test -- --bail",
  isRoot: false,
  deadlineMs: 600_000,
  allowance: {
    file: "/trial/side/allowance.json",
    server: {
      command: "/usr/bin/node",
      args: ["/trial/side/allowance-tool.mts", "/trial/side/allowance.json"],
    },
  },
  allowanceText: "Your allowance: 0.5000 CAD of 1.0000 CAD for model calls, and 9 minutes.",
};

/** Stopped in a phase, its CLI's session put back. */
export function inSession(phase: "plan" | "execute"): PlanInput {
  const id = "0199c0de-0000-7000-8000-000000000001";
  const completedPhases = phase === "plan" ? [] : ["plan"];
  return { ...INPUT, resume: { completedPhases, session: { id, phase } } };
}

export const RESUMED: PlanInput = {
  ...INPUT,
  resume: { completedPhases: ["plan"], planText: "1. Change `a`.\n2. Say {{plan}} and $&." },
};
