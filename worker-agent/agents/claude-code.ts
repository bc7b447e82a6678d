/**
 * Claude Code: plans in its plan mode with the thinking model, then resumes the session with the
 * normal one. Proprietary: installed at run time on the user's order, never shipped.
 *
 * `--bare` keeps its own prompt at 4 KB instead of 49, which leaves room on small models. The
 * repository's own settings are left out, since they may name another server and another model.
 */
import { ALLOWANCE_SERVER, ALLOWANCE_TOOL } from "../allowance.ts";
import { type Agent, type AgentSession, binaryPath, type Phase, type PlanInput } from "./agent.ts";
import { phaseOutcome } from "./outcomes.ts";
import { commonEnv, gitConfig, MODEL_RETRIES, pairPhases } from "./phases.ts";
import { createStreamJsonParser } from "./stream-json.ts";

/** Else each command of the plan phase is judged in a call of its own, of 36,000 tokens. */
const PLAN_SETTINGS = {
  permissions: {
    disableAutoMode: "disable",
    allow: [`mcp__${ALLOWANCE_SERVER}__${ALLOWANCE_TOOL}`],
  },
};

const session: AgentSession = {
  files: [".claude/projects"],
  resumeArgs: (id) => (id === null ? ["--continue"] : ["--resume", id]),
};

export const claudeCode: Agent = {
  facts: {
    name: "claude-code",
    title: "Claude Code",
    package_source: "npm",
    package_name: "@anthropic-ai/claude-code",
    version: "2.1.329",
    license: "proprietary",
    is_redistributable: false,
    wire: "anthropic.messages",
    pair_mode: "phases",
    is_exit_code_trusted: true,
    budget_stop_status: 403,
    prompt_floor_tokens: 1_000,
    needs_tool_calls: true,
  },
  binary: { path: "node_modules/.bin/claude", args: [] },
  executableGlobs: [],
  litter: [],
  hasMcp: true,
  session,
  plan,
  parser: createStreamJsonParser,
  outcome: phaseOutcome,
};

function plan(input: PlanInput): Phase[] {
  const { sessionId } = input;
  const settings = ["--settings", JSON.stringify(PLAN_SETTINGS)];
  return pairPhases(input, {
    session,
    begin: { args: ["--session-id", sessionId], id: sessionId },
    phase: (name, sessionArgs, prompt) => {
      const args =
        name === "plan"
          ? ["--permission-mode", "plan", ...sessionArgs, ...settings]
          : ["--dangerously-skip-permissions", ...sessionArgs];
      return phase(input, name, args, prompt);
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
  return {
    name,
    sides: [side],
    file: binaryPath(claudeCode, input.installDir),
    args: [
      ...["-p", "--bare", "--setting-sources", "user"],
      ...["--strict-mcp-config", "--mcp-config", JSON.stringify(mcpConfig(input))],
      ...["--output-format", "stream-json", "--verbose"],
      ...args,
      ...["--", prompt],
    ],
    env: {
      ...commonEnv(input),
      ANTHROPIC_BASE_URL: input.gatewayUrl,
      ANTHROPIC_API_KEY: input.virtualKey,
      // Every model that it may choose by itself, so that a phase has one side alone.
      ANTHROPIC_MODEL: model,
      ANTHROPIC_DEFAULT_OPUS_MODEL: model,
      ANTHROPIC_DEFAULT_SONNET_MODEL: model,
      ANTHROPIC_DEFAULT_HAIKU_MODEL: model,
      ANTHROPIC_SMALL_FAST_MODEL: model,
      CLAUDE_CODE_SUBAGENT_MODEL: model,
      CLAUDE_CODE_MAX_OUTPUT_TOKENS: String(input.maxOutputTokens),
      CLAUDE_CODE_MAX_RETRIES: String(MODEL_RETRIES),
      API_TIMEOUT_MS: String(input.deadlineMs),
      CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: "1",
      CLAUDE_CODE_DISABLE_EXPERIMENTAL_BETAS: "1",
      CLAUDE_CODE_DISABLE_AUTO_MEMORY: "1",
      DISABLE_AUTOUPDATER: "1",
      DISABLE_TELEMETRY: "1",
      DISABLE_ERROR_REPORTING: "1",
      // Else its first call goes out before the tool is there.
      MCP_CONNECTION_NONBLOCKING: "false",
      // It refuses to skip permissions as root unless it is told that this is a sandbox.
      ...(input.isRoot && { IS_SANDBOX: "1" }),
    },
    files: [gitConfig(input)],
    terminal: false,
  };
}

function mcpConfig({ allowance }: PlanInput) {
  return { mcpServers: { [ALLOWANCE_SERVER]: { type: "stdio", ...allowance.server } } };
}
