/**
 * Aider: one process serves the pair, its architect mode: the thinking model says what to change
 * and the normal one edits.
 *
 * It has no tools and exits with 0 also when every model call failed: its words are read for
 * errors instead, and the verdict is the verifier's as always.
 */
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
import { errorEvent, textEvent, usageEvent } from "./json-lines.ts";
import { phaseOutcome } from "./outcomes.ts";
import {
  commonEnv,
  earlierPlan,
  gitConfig,
  goOnPrompt,
  implementPlanPrompt,
  taskPrompt,
} from "./phases.ts";

/** It has one conversation, which it writes down for people and can read again. */
const session: AgentSession = {
  files: ["chat-history.md"],
  resumeArgs: () => ["--restore-chat-history"],
};

export const aider: Agent = {
  facts: {
    name: "aider",
    title: "Aider",
    package_source: "pypi",
    package_name: "aider-chat",
    version: "0.86.2",
    license: "Apache-2.0",
    is_redistributable: true,
    wire: "openai.chat",
    pair_mode: "native",
    is_exit_code_trusted: false,
    budget_stop_status: 400,
    prompt_floor_tokens: 400,
    needs_tool_calls: false,
  },
  // Not bin/aider: the first line of that names the folder in which pip made it.
  binary: { path: "bin/python", args: ["-m", "aider"] },
  executableGlobs: [],
  litter: [".aider*"],
  hasMcp: false,
  session,
  plan,
  parser: createAiderParser,
  outcome: phaseOutcome,
};

function plan(input: PlanInput): Phase[] {
  const { models, home, resume } = input;
  const prompt = promptFor(input);
  const base = `${input.gatewayUrl}/v1`;
  // A repository's .env and .aider.conf.yml must not lead to another server: what is named with
  // AIDER_ comes before both, and so do arguments.
  const key = {
    OPENAI_API_BASE: base,
    OPENAI_BASE_URL: base,
    OPENAI_API_KEY: input.virtualKey,
    AIDER_OPENAI_API_BASE: base,
    AIDER_OPENAI_API_KEY: input.virtualKey,
  };
  const files = {
    env: `${home}/aider.env`,
    metadata: `${home}/model-metadata.json`,
    settings: `${home}/model-settings.yml`,
  };
  return [
    {
      name: "execute",
      sides: ["thinking", "normal"],
      file: binaryPath(aider, input.installDir),
      args: [...aider.binary.args, ...options(input, files)],
      env: { ...commonEnv(input), ...key, LITELLM_LOCAL_MODEL_COST_MAP: "True" },
      files: [
        gitConfig(input),
        // Aider loads the repository's .env over its environment; what is named here comes last.
        {
          path: files.env,
          content: `${Object.entries(key)
            .map(([name, value]) => `${name}=${value}\n`)
            .join("")}`,
          mode: 0o600,
        },
        { path: files.metadata, content: json(metadata(input)), mode: 0o600 },
        { path: files.settings, content: json(modelSettings(input)), mode: 0o600 },
      ],
      terminal: false,
    },
  ];

  function options(
    { home, deadlineMs, testCommand }: PlanInput,
    { env, metadata, settings }: typeof files,
  ): string[] {
    return [
      "--architect",
      `--model=openai/${models.thinking}`,
      `--editor-model=openai/${models.normal}`,
      `--weak-model=openai/${models.normal}`,
      "--editor-edit-format=editor-diff",
      `--model-metadata-file=${metadata}`,
      `--model-settings-file=${settings}`,
      `--timeout=${Math.ceil(deadlineMs / 1000)}`,
      `--env-file=${env}`,
      `--llm-history-file=${home}/llm-history.txt`,
      `--chat-history-file=${home}/chat-history.md`,
      `--input-history-file=${home}/input-history.txt`,
      ...(resume?.session === undefined ? [] : session.resumeArgs(resume.session.id)),
      ...["--yes-always", "--no-pretty", "--no-fancy-input", "--no-notifications"],
      ...["--no-check-update", "--analytics-disable", "--no-show-release-notes"],
      ...["--no-show-model-warnings", "--no-gitignore", "--no-detect-urls"],
      ...["--no-suggest-shell-commands", "--disable-playwright"],
      // The diff is taken from the checkout; a commit would cost a call for its message.
      ...["--no-auto-commits", "--no-dirty-commits"],
      ...(testCommand === undefined
        ? ["--no-auto-test"]
        : ["--auto-test", `--test-cmd=${testCommand}`]),
      // Said here, since the repository's own settings would name programs: of a language that
      // nobody has, so that Aider's own linter stays.
      ...["--lint-cmd=none: true", "--load=/dev/null"],
      // Not from a file, which a message of the repository's own configuration would forestall.
      `--message=${prompt}`,
    ];
  }
}

/** Its history is no longer than it fits, so the task is told again. */
function promptFor(input: PlanInput): string {
  const { instruction, resume } = input;
  if (resume?.session !== undefined) {
    return `${taskPrompt(instruction)}\n\n${goOnPrompt(input, "execute")}`;
  }
  const earlier = earlierPlan(input);
  return earlier === null ? taskPrompt(instruction) : implementPlanPrompt(instruction, earlier);
}

function metadata({ models, contextTokens, maxOutputTokens }: PlanInput) {
  const facts = {
    max_input_tokens: contextTokens,
    max_output_tokens: maxOutputTokens,
    litellm_provider: "openai",
    mode: "chat",
  };
  return { [`openai/${models.normal}`]: facts, [`openai/${models.thinking}`]: facts };
}

/** YAML that is JSON. Aider itself sends no cap on the output. */
function modelSettings({ models, maxOutputTokens }: PlanInput) {
  return [models.thinking, models.normal].map((model) => ({
    name: `openai/${model}`,
    edit_format: "diff",
    extra_params: { max_tokens: maxOutputTokens },
  }));
}

function json(value: unknown): string {
  return `${JSON.stringify(value, null, 2)}\n`;
}

/** `litellm.BadRequestError: …` and its like, and Aider's own words for a failed call. */
const ERROR_LINE =
  /^(?:litellm\.\w*(?:Error|Exception|Timeout)\b|(?:openai\.)?\w*(?:APIError|AuthenticationError)\b|The API provider )/;
const STATUSES: readonly (readonly [RegExp, number])[] = [
  [/AuthenticationError|not able to authenticate/, 401],
  [/PermissionDenied/, 403],
  [/BadRequestError|ContextWindow/, 400],
  [/RateLimitError/, 429],
  [/InternalServerError/, 500],
];
const TOKENS_LINE = /^Tokens: ([\d.]+)(k?) sent, ([\d.]+)(k?) received/;
/** What Aider prints at its start, of no interest to anyone who reads the trial. */
const BANNER_LINE =
  /^(?:Aider v|Analytics have been |Main model:|Architect model:|Editor model:|Weak model:|Model:|Git repo:|Repo-map:|Multiline mode)/;

function createAiderParser(): OutputParser {
  const lines: string[] = [];
  let finalText = "";
  let lastError: AgentError | null = null;
  let isInError = false;
  return { push, summary };

  /** Text up to a line of tokens is one message: Aider prints that line after every answer. */
  function push(raw: string): AgentEvent[] {
    const line = raw.trimEnd();
    if (ERROR_LINE.test(line)) {
      const status = STATUSES.find(([name]) => name.test(line))?.[1];
      lastError = { message: line, ...(status !== undefined && { status }) };
      isInError = true;
      return [errorEvent(line, status)];
    }
    // It breaks its lines at 80 columns: the gateway's word may be in the next.
    isInError &&= line !== "";
    if (isInError && lastError !== null) {
      lastError = { ...lastError, message: `${lastError.message} ${line}` };
      return [];
    }
    const tokens = TOKENS_LINE.exec(line);
    if (tokens === null) {
      if (!BANNER_LINE.test(line)) lines.push(line);
      return [];
    }
    // A call went through, so what failed before it was overcome.
    lastError = null;
    const answer = lines.splice(0).join("\n").trim();
    finalText = answer || finalText;
    const [, sent = "", sentUnit = "", received = "", receivedUnit = ""] = tokens;
    return [
      ...textEvent("agent.message", answer),
      ...usageEvent(amount(sent, sentUnit), amount(received, receivedUnit)),
    ];
  }

  function summary() {
    const isComplete = lastError === null && finalText !== "";
    return { sessionId: null, finalText, lastError, isComplete, isLimitReached: false };
  }
}

function amount(digits: string, unit: string): number {
  return Math.round(Number(digits) * (unit === "k" ? 1000 : 1));
}
