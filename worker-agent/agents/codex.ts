/**
 * Codex: plans with the thinking model, then resumes the session with the normal one. It speaks
 * the Responses protocol and nothing else.
 */
import { ALLOWANCE_SERVER } from "../allowance.ts";
import {
  type Agent,
  type AgentError,
  type AgentEvent,
  type AgentSession,
  binaryPath,
  type OutputParser,
  type Phase,
  type PlanInput,
} from "./agent.ts";
import {
  count,
  errorEvent,
  type JsonObject,
  object,
  parseLine,
  text,
  textEvent,
  toolCall,
  toolResult,
  usageEvent,
} from "./json-lines.ts";
import { phaseOutcome } from "./outcomes.ts";
import { commonEnv, gitConfig, MODEL_RETRIES, pairPhases } from "./phases.ts";

const KEY_VARIABLE = "AUTOCODE_GATEWAY_KEY";

/** In place of its own 17 KB, which small models have no room for. */
const INSTRUCTIONS = `You are a coding agent in a terminal, working in the user's repository.
Read what you need before you change anything, make the smallest change that does the task, check
it, and end with a short account of what you did. Nobody can answer questions.
`;

const session: AgentSession = {
  files: [".codex/sessions"],
  resumeArgs: (id) => ["resume", id ?? "--last"],
};

export const codex: Agent = {
  facts: {
    name: "codex",
    title: "Codex",
    package_source: "npm",
    package_name: "@openai/codex",
    version: "0.169.0",
    license: "Apache-2.0",
    is_redistributable: true,
    wire: "openai.responses",
    pair_mode: "phases",
    is_exit_code_trusted: true,
    budget_stop_status: 400,
    prompt_floor_tokens: 2_300,
    needs_tool_calls: true,
  },
  binary: { path: "node_modules/.bin/codex", args: [] },
  executableGlobs: [],
  litter: [],
  hasMcp: true,
  session,
  plan,
  parser: createCodexParser,
  outcome: phaseOutcome,
};

function plan(input: PlanInput): Phase[] {
  return pairPhases(input, {
    session,
    begin: { args: [], id: null },
    phase: (name, sessionArgs, prompt) => phase(input, name, sessionArgs, prompt),
  });
}

function phase(
  input: PlanInput,
  name: Phase["name"],
  command: readonly string[],
  prompt: string,
): Phase {
  const { home } = input;
  const side = name === "plan" ? "thinking" : "normal";
  const [effort, sandbox] =
    name === "plan" ? ["high", "read-only"] : ["medium", "danger-full-access"];
  return {
    name,
    sides: [side],
    file: binaryPath(codex, input.installDir),
    args: [
      ...["exec", ...command, "--json", "--skip-git-repo-check", "-m", input.models[side]],
      ...["-c", `model_reasoning_effort="${effort}"`, "-c", `sandbox_mode="${sandbox}"`],
      ...["--", prompt],
    ],
    env: { ...commonEnv(input), CODEX_HOME: `${home}/.codex`, [KEY_VARIABLE]: input.virtualKey },
    files: [
      gitConfig(input),
      { path: `${home}/.codex/config.toml`, content: config(input), mode: 0o600 },
      { path: `${home}/.codex/instructions.md`, content: INSTRUCTIONS, mode: 0o600 },
    ],
    terminal: false,
  };
}

/** TOML; its basic strings are JSON's. */
function config(input: PlanInput): string {
  return `model = ${JSON.stringify(input.models.normal)}
model_provider = "gateway"
model_context_window = ${input.contextTokens}
model_instructions_file = ${JSON.stringify(`${input.home}/.codex/instructions.md`)}
approval_policy = "never"
check_for_update_on_startup = false
web_search = "disabled"

[model_providers.gateway]
name = "gateway"
base_url = ${JSON.stringify(`${input.gatewayUrl}/v1`)}
env_key = "${KEY_VARIABLE}"
wire_api = "responses"
request_max_retries = ${MODEL_RETRIES}
stream_max_retries = ${MODEL_RETRIES}
stream_idle_timeout_ms = ${input.deadlineMs}

[mcp_servers.${ALLOWANCE_SERVER}]
command = ${JSON.stringify(input.allowance.server.command)}
args = ${JSON.stringify(input.allowance.server.args)}

# The commands that the model runs have no use for the key.
[shell_environment_policy]
exclude = ["${KEY_VARIABLE}"]

[analytics]
enabled = false

# Each of these calls hosts of its own.
[features]
plugins = false
apps = false
goals = false
multi_agent = false
`;
}

/** Items that are work of a kind that others call a tool. */
const TOOL_ITEMS = new Set(["command_execution", "file_change", "mcp_tool_call", "web_search"]);

function createCodexParser(): OutputParser {
  let sessionId: string | null = null;
  let finalText = "";
  let lastError: AgentError | null = null;
  let isComplete = false;
  return { push, summary };

  function push(line: string): AgentEvent[] {
    const message = parseLine(line);
    if (message === null) return [];
    const item = object(message["item"]) ?? {};
    switch (message["type"]) {
      case "thread.started":
        sessionId = text(message["thread_id"]) ?? sessionId;
        return [];
      case "item.started":
        return isTool(item) ? [started(item)] : [];
      case "item.completed":
        return completed(item);
      case "turn.completed": {
        isComplete = true;
        lastError = null;
        const usage = object(message["usage"]);
        return usageEvent(count(usage?.["input_tokens"]), count(usage?.["output_tokens"]));
      }
      case "turn.failed":
        isComplete = false;
        return failed(text(object(message["error"])?.["message"]));
      case "error":
        return failed(text(message["message"]));
      default:
        return [];
    }
  }

  function completed(item: JsonObject): AgentEvent[] {
    if (isTool(item)) return [ended(item)];
    if (item["type"] === "reasoning") return textEvent("agent.reasoning", item["text"]);
    if (item["type"] !== "agent_message") return [];
    finalText = text(item["text"])?.trim() || finalText;
    return textEvent("agent.message", item["text"]);
  }

  /** Told twice, as an error and as the turn's end: one event. */
  function failed(said: string | null): AgentEvent[] {
    const message = said === null ? "error" : unwrapped(said);
    if (message === lastError?.message) return [];
    const status = /\bstatus (?:code )?(\d{3})\b/.exec(message)?.[1];
    lastError = { message, ...(status !== undefined && { status: Number(status) }) };
    return [errorEvent(message, lastError.status)];
  }

  function summary() {
    return { sessionId, finalText, lastError, isComplete, isLimitReached: false };
  }
}

/** A 400 is told as the body of the answer. */
function unwrapped(said: string): string {
  const error = object(parseLine(said)?.["error"]);
  const message = text(error?.["message"]);
  if (message === null) return said;
  const code = text(error?.["code"]);
  return code === null || message.includes(code) ? message : `${code}: ${message}`;
}

function isTool(item: JsonObject): boolean {
  return TOOL_ITEMS.has(text(item["type"]) ?? "");
}

function started({ id, type, command, changes, tool, query }: JsonObject): AgentEvent {
  return toolCall(id, type, { command, changes, tool, query });
}

function ended(item: JsonObject): AgentEvent {
  const exitCode = item["exit_code"];
  const isError = item["status"] === "failed" || (typeof exitCode === "number" && exitCode !== 0);
  const shown = item["aggregated_output"] ?? item["result"] ?? item["changes"];
  return toolResult(item["id"], isError, shown);
}
