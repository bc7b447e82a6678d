/**
 * OpenCode: its plan agent has the thinking model and its build agent the normal one, in one
 * session.
 *
 * Known leak: at its start it tries the npm registry once, whatever it is told; the attempt is
 * refused by the egress proxy and costs it a warning.
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
import { commonEnv, gitConfig, pairPhases } from "./phases.ts";

const KEY_VARIABLE = "AUTOCODE_GATEWAY_KEY";

/** A database and what is not written into it yet. */
const session: AgentSession = {
  files: [".local/share/opencode/opencode.db", ".local/share/opencode/opencode.db-wal"],
  resumeArgs: (id) => (id === null ? ["--continue"] : ["--session", id]),
};

export const opencode: Agent = {
  facts: {
    name: "opencode",
    title: "OpenCode",
    package_source: "npm",
    package_name: "opencode-ai",
    version: "1.18.33",
    license: "MIT",
    is_redistributable: true,
    wire: "openai.chat",
    pair_mode: "phases",
    is_exit_code_trusted: true,
    budget_stop_status: 403,
    prompt_floor_tokens: 7_700,
    needs_tool_calls: true,
  },
  binary: { path: "node_modules/.bin/opencode", args: [] },
  executableGlobs: [],
  litter: [],
  hasMcp: true,
  session,
  plan,
  parser: createOpencodeParser,
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
  args: readonly string[],
  prompt: string,
): Phase {
  const side = name === "plan" ? "thinking" : "normal";
  const { home } = input;
  return {
    name,
    sides: [side],
    file: binaryPath(opencode, input.installDir),
    args: [
      // A title of its own saves the call by which it would make one.
      ...["run", "--format", "json", "--auto", "--title", "trial"],
      ...["--agent", name === "plan" ? "plan" : "build", "-m", `gateway/${input.models[side]}`],
      ...args,
      "--",
      prompt,
    ],
    env: {
      ...commonEnv(input),
      XDG_DATA_HOME: `${home}/.local/share`,
      XDG_CONFIG_HOME: `${home}/.config`,
      XDG_STATE_HOME: `${home}/.local/state`,
      XDG_CACHE_HOME: `${home}/.cache`,
      // Inline, since that comes after the repository's own configuration.
      OPENCODE_CONFIG_CONTENT: JSON.stringify(config(input)),
      OPENCODE_DISABLE_MODELS_FETCH: "1",
      // The repository's own may name programs to run, as tools and as plugins.
      OPENCODE_DISABLE_PROJECT_CONFIG: "1",
      OPENCODE_DISABLE_AUTOUPDATE: "1",
      OPENCODE_DISABLE_LSP_DOWNLOAD: "1",
      [KEY_VARIABLE]: input.virtualKey,
    },
    files: [gitConfig(input)],
    terminal: false,
  };
}

function config(input: PlanInput) {
  const { models, gatewayUrl, workdir, contextTokens, maxOutputTokens, deadlineMs } = input;
  const limit = { context: contextTokens, output: maxOutputTokens };
  const { command, args } = input.allowance.server;
  return {
    // Not looked for any more, with the repository's settings.
    instructions: [`${workdir}/AGENTS.md`, `${workdir}/CLAUDE.md`],
    mcp: { [ALLOWANCE_SERVER]: { type: "local", command: [command, ...args], enabled: true } },
    autoupdate: false,
    share: "disabled",
    small_model: `gateway/${models.normal}`,
    agent: {
      // Its plan agent refuses edits, but not commands that write.
      plan: {
        model: `gateway/${models.thinking}`,
        permission: { edit: "deny", bash: "deny", webfetch: "deny", task: "deny" },
      },
      build: { model: `gateway/${models.normal}` },
    },
    provider: {
      gateway: {
        npm: "@ai-sdk/openai-compatible",
        options: {
          baseURL: `${gatewayUrl}/v1`,
          apiKey: `{env:${KEY_VARIABLE}}`,
          timeout: deadlineMs,
        },
        models: { [models.normal]: { limit }, [models.thinking]: { limit } },
      },
    },
  };
}

function createOpencodeParser(): OutputParser {
  let sessionId: string | null = null;
  let finalText = "";
  let lastError: AgentError | null = null;
  let isComplete = false;
  return { push, summary };

  function push(line: string): AgentEvent[] {
    const message = parseLine(line);
    if (message === null) return [];
    sessionId = text(message["sessionID"]) ?? sessionId;
    const part = object(message["part"]) ?? {};
    switch (message["type"]) {
      case "text":
        finalText = text(part["text"])?.trim() || finalText;
        return textEvent("agent.message", part["text"]);
      case "reasoning":
        return textEvent("agent.reasoning", part["text"]);
      case "tool_use":
        return tool(part);
      case "step_finish":
        return stepFinished(part);
      case "error":
        return [failed(object(message["error"]) ?? {})];
      default:
        return [];
    }
  }

  /** It prints a tool only once it is done: the call and its result are one line. */
  function tool(part: JsonObject): AgentEvent[] {
    const state = object(part["state"]) ?? {};
    const isError = state["status"] === "error";
    return [
      toolCall(part["callID"], part["tool"], state["input"]),
      toolResult(part["callID"], isError, isError ? state["error"] : state["output"]),
    ];
  }

  function stepFinished(part: JsonObject): AgentEvent[] {
    isComplete = part["reason"] === "stop";
    if (isComplete) lastError = null;
    const tokens = object(part["tokens"]);
    return usageEvent(count(tokens?.["input"]), count(tokens?.["output"]));
  }

  function failed(error: JsonObject): AgentEvent {
    const data = object(error["data"]) ?? error;
    // The body holds the gateway's code, which its message need not.
    const body = text(data["responseBody"]) ?? "";
    const said = text(data["message"]) ?? text(error["name"]) ?? "error";
    const isTold = said.includes("budget_exceeded") || !body.includes("budget_exceeded");
    const message = isTold ? said : `budget_exceeded: ${said}`;
    const status = typeof data["statusCode"] === "number" ? data["statusCode"] : undefined;
    lastError = { message, ...(status !== undefined && { status }) };
    isComplete = false;
    return errorEvent(message, status);
  }

  function summary() {
    return { sessionId, finalText, lastError, isComplete, isLimitReached: false };
  }
}
