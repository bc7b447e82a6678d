/**
 * Qwen Code: plans in its plan mode with the thinking model, then resumes the session with the
 * normal one.
 *
 * Not `--bare`, which halves its prompt: that ignores the settings file, and with it the one way
 * to keep its usage statistics at home.
 */
import { ALLOWANCE_SERVER } from "../allowance.ts";
import { type Agent, type AgentSession, binaryPath, type Phase, type PlanInput } from "./agent.ts";
import { phaseOutcome } from "./outcomes.ts";
import { commonEnv, gitConfig, MODEL_RETRIES, pairPhases } from "./phases.ts";
import { createStreamJsonParser } from "./stream-json.ts";

/** Its own limits: turns, and tool calls or wall time. */
const LIMIT_EXIT_CODES = new Set([53, 55]);

const session: AgentSession = {
  files: [".qwen/projects"],
  resumeArgs: (id) => (id === null ? ["--continue"] : ["--resume", id]),
};

export const qwenCode: Agent = {
  facts: {
    name: "qwen-code",
    title: "Qwen Code",
    package_source: "npm",
    package_name: "@qwen-code/qwen-code",
    version: "0.24.4",
    license: "Apache-2.0",
    is_redistributable: true,
    wire: "openai.chat",
    pair_mode: "phases",
    is_exit_code_trusted: true,
    budget_stop_status: 403,
    prompt_floor_tokens: 19_600,
    needs_tool_calls: true,
  },
  binary: { path: "node_modules/.bin/qwen", args: [] },
  executableGlobs: ["node_modules/@qwen-code/qwen-code/vendor/ripgrep/*/rg"],
  litter: [],
  hasMcp: true,
  session,
  plan,
  parser: createStreamJsonParser,
  outcome: (ended) => {
    if (ended.exitCode !== null && LIMIT_EXIT_CODES.has(ended.exitCode)) {
      return { outcome: "limit", detail: `ended with exit code ${ended.exitCode}` };
    }
    return phaseOutcome(ended);
  },
};

function plan(input: PlanInput): Phase[] {
  const { sessionId } = input;
  return pairPhases(input, {
    session,
    begin: { args: ["--session-id", sessionId], id: sessionId },
    phase: (name, sessionArgs, prompt) => {
      const mode = name === "plan" ? ["--approval-mode", "plan"] : ["--yolo"];
      return phase(input, name, [...mode, ...sessionArgs], prompt);
    },
  });
}

function phase(
  input: PlanInput,
  name: Phase["name"],
  args: readonly string[],
  prompt: string,
): Phase {
  const side = name === "plan" ? "thinking" : "normal";
  const model = input.models[side];
  // The system's settings come before the repository's own; the user's would come after them.
  const settingsFile = `${input.home}/.qwen/system-settings.json`;
  return {
    name,
    sides: [side],
    file: binaryPath(qwenCode, input.installDir),
    args: [
      ...["--auth-type", "openai", "--output-format", "stream-json", "-m", model],
      ...args,
      // Not after `--`, where it is not found.
      prompt,
    ],
    env: {
      ...commonEnv(input),
      OPENAI_BASE_URL: `${input.gatewayUrl}/v1`,
      OPENAI_API_KEY: input.virtualKey,
      OPENAI_MODEL: model,
      QWEN_CODE_MAX_OUTPUT_TOKENS: String(input.maxOutputTokens),
      QWEN_CODE_SYSTEM_SETTINGS_PATH: settingsFile,
      QWEN_CODE_NO_RELAUNCH: "true",
      QWEN_CODE_SUPPRESS_YOLO_WARNING: "1",
    },
    files: [
      gitConfig(input),
      {
        path: settingsFile,
        content: `${JSON.stringify(settings(input, model), null, 2)}\n`,
        mode: 0o600,
      },
    ],
    terminal: false,
  };
}

function settings({ contextTokens, deadlineMs, allowance }: PlanInput, model: string) {
  return {
    mcpServers: { [ALLOWANCE_SERVER]: { ...allowance.server, trust: true } },
    // The repository's own hooks and servers are programs that it names.
    mcp: { allowed: [ALLOWANCE_SERVER] },
    disableAllHooks: true,
    privacy: { usageStatisticsEnabled: false },
    telemetry: { enabled: false },
    general: { enableAutoUpdate: false },
    // Each of these makes model calls of its own after the work is done.
    memory: {
      enableManagedAutoMemory: false,
      enableManagedAutoDream: false,
      enableAutoSkill: false,
    },
    security: { auth: { selectedType: "openai" } },
    model: {
      name: model,
      generationConfig: {
        timeout: deadlineMs,
        maxRetries: MODEL_RETRIES,
        contextWindowSize: contextTokens,
      },
    },
  };
}
