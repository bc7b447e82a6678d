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
};

export const RESUMED: PlanInput = {
  ...INPUT,
  resume: { completedPhases: ["plan"], planText: "1. Change `a`.\n2. Say {{plan}} and $&." },
};
