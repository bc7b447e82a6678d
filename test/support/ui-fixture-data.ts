/**
 * What the UI's fixture shows: every state and verdict, two currencies' worth of small amounts,
 * and the strings an attacker would put wherever an agent or a repository can put text.
 */
import type { Call } from "../../orchestrator/contract/calls.ts";
import type { EventType, TrialEvent } from "../../orchestrator/contract/events.ts";
import type { Balance } from "../../orchestrator/contract/money.ts";
import type { Project } from "../../orchestrator/contract/projects.ts";
import type { Finding } from "../../orchestrator/contract/system.ts";
import type { Trial } from "../../orchestrator/contract/trials.ts";
import { type EpochMs, rfc3339 } from "../../orchestrator/runtime/clock.ts";
import type { Ids } from "../../orchestrator/runtime/ids.ts";

/** Marks the page when any of it is ever taken for markup. */
export const MARKUP =
  `<img src=x onerror="globalThis.wasRun=true">` + `<script>globalThis.wasRun=true</script>`;

export function balance(fundedNanos: bigint, spentNanos: bigint, reservedNanos = 0n): Balance {
  return {
    currency: "CAD",
    funded_nanos: String(fundedNanos),
    reserved_nanos: String(reservedNanos),
    spent_nanos: String(spentNanos),
    available_nanos: String(fundedNanos - spentNanos - reservedNanos),
  };
}

/** A project, with its trials counted. */
export function project(
  name: string,
  [trials, nowMs]: [Trial[], number],
  total: Project["balance"],
  today: Project["today"],
): Project {
  const ofProject = trials.filter((each) => each.project === name);
  return {
    id: `project_${name}`,
    name,
    currency: "CAD",
    time_zone: "America/Toronto",
    per_trial_nanos: "500000000",
    daily_allowance_nanos: today?.funded_nanos ?? null,
    agents: ["qwen-code", "claude-code", "aider"],
    pairs: ["qwen3-coder-next", "scripted"],
    tasks: ["fix-date-parser"],
    balance: total,
    today,
    trial_counts: { succeeded: ofProject.length },
    created_at: rfc3339(nowMs - 90_000_000),
  };
}

export function usage(inputTokens: number, outputTokens: number, cachedTokens = 0) {
  return {
    input_tokens: inputTokens,
    cache_read_tokens: cachedTokens,
    cache_write_tokens: 0,
    output_tokens: outputTokens,
    reasoning_tokens: Math.floor(outputTokens / 4),
  };
}

/** A trial that passed, with what `changes` says instead. */
export function trial(id: string, startedMs: EpochMs, changes: Partial<Trial>): Trial {
  const durationMs = changes.duration_ms === undefined ? 41_300 : changes.duration_ms;
  return {
    id,
    project: "tidy-cli",
    experiment_id: null,
    task: "fix-date-parser",
    agent: "qwen-code",
    agent_version: "1.2.3",
    pair: "qwen3-coder-next",
    attempt: 1,
    seed: 42,
    priority: 0,
    state: "succeeded",
    reason: null,
    verdict: "passed",
    flags: [],
    tries: 1,
    forked_from: null,
    replay_of: null,
    resume_at: null,
    approval_id: null,
    budget: balance(500_000_000n, 42_318_000n),
    usage: usage(18_204, 1_932, 6_144),
    call_count: 7,
    is_scripted: false,
    created_at: rfc3339(startedMs - 1_200),
    started_at: rfc3339(startedMs),
    ended_at: durationMs === null ? null : rfc3339(startedMs + durationMs),
    ...changes,
    duration_ms: durationMs,
  };
}

/** An experiment's trials: three agents, two pairs, one of them scripted, every kind of end. */
export function experimentTrials(ids: Ids, experimentId: string, startedMs: EpochMs): Trial[] {
  const ends: Partial<Trial>[] = [
    {},
    {
      agent: "claude-code",
      budget: balance(500_000_000n, 187_402_500n),
      usage: usage(92_310, 5_120, 41_000),
      call_count: 15,
      duration_ms: 128_900,
    },
    {
      agent: "aider",
      state: "failed",
      verdict: "failed",
      budget: balance(500_000_000n, 65_000_100n),
      duration_ms: 73_050,
    },
    {
      pair: "scripted",
      is_scripted: true,
      budget: balance(500_000_000n, 4_200_000n),
      usage: usage(6_120, 410),
      call_count: 4,
      duration_ms: 9_800,
    },
    {
      agent: "claude-code",
      agent_version: "1.2.3",
      pair: "scripted",
      is_scripted: true,
      state: "running",
      verdict: null,
      budget: balance(500_000_000n, 2_100_000n, 15_000_000n),
      usage: usage(3_050, 190),
      call_count: 2,
      duration_ms: null,
    },
    {
      agent: "aider",
      agent_version: "1.2.3",
      pair: "scripted",
      is_scripted: true,
      state: "queued",
      verdict: null,
      budget: null,
      usage: usage(0, 0),
      call_count: 0,
      duration_ms: null,
      started_at: null,
      tries: 0,
    },
  ];
  return ends.map((changes, index) =>
    trial(ids.next("trial"), startedMs + index * 900, { experiment_id: experimentId, ...changes }),
  );
}

export function findings(): Finding[] {
  return [
    {
      part: "database",
      status: "ok",
      detail: "PostgreSQL 18.4, embedded, 14 migrations",
      next_step: null,
    },
    {
      part: "scheduler",
      status: "ok",
      detail: "local: allocations are processes of this machine",
      next_step: null,
    },
    {
      part: "agent claude-code",
      status: "warn",
      detail: "not installed",
      next_step: "autocode agent install claude-code",
    },
    {
      part: "models",
      status: "missing",
      detail: "No real model server is configured: trials run on the scripted model",
      next_step: "Set OPENAI_BASE_URL and OPENAI_API_KEY, or add models: to autocode.yaml",
    },
  ];
}

/** The story of a trial that passed, from its queue to its verdict. */
export function story(trialId: string, startedMs: EpochMs): TrialEvent[] {
  const told: [number, EventType, Record<string, unknown>][] = [
    [-1_200, "trial.state", { from: null, to: "queued" }],
    [
      -900,
      "trial.state",
      { from: "queued", to: "admitted", reason: "0.50 CAD reserved of the day’s allowance" },
    ],
    [-300, "trial.state", { from: "admitted", to: "placed" }],
    [0, "trial.state", { from: "placed", to: "running" }],
    [210, "worker.step", { step: "workspace_ready", detail: "clean clone at 4be1c02" }],
    [
      420,
      "phase.started",
      {
        phase: "plan",
        side: "thinking",
        agent: "qwen-code",
        argv: ["qwen", "--approval-mode", "plan", "--output-format", "stream-json"],
      },
    ],
    [
      3_900,
      "agent.reasoning",
      {
        text: "The test expects week 53 to end with the year.\nLook at parseWeek first.",
      },
    ],
    [
      4_100,
      "agent.tool_call",
      { call_id: "t1", name: "read_file", arguments: { path: "src/date.js", limit: 200 } },
    ],
    [
      4_180,
      "agent.tool_result",
      {
        call_id: "t1",
        is_error: false,
        text: "export function parseWeek(text) {\n  return new Date(text);\n}\n",
      },
    ],
    [
      4_300,
      "call.settled",
      {
        call_id: "c1",
        side: "thinking",
        model: "qwen3-thinking",
        input_tokens: 5_120,
        output_tokens: 402,
        cost_nanos: "8041200",
      },
    ],
    [
      9_100,
      "phase.ended",
      { phase: "plan", exit_code: 0, signal: null, duration_ms: 8_680, outcome: "finished" },
    ],
    [
      9_300,
      "phase.started",
      { phase: "execute", side: "normal", agent: "qwen-code", argv: ["qwen", "--yolo"] },
    ],
    [
      12_000,
      "agent.message",
      { text: "I will fix `parseWeek` so that week 53 belongs to the year it started in." },
    ],
    [
      12_400,
      "agent.tool_call",
      { call_id: "t2", name: "run_shell_command", arguments: '{"command":"npm test"}' },
    ],
    [
      18_900,
      "agent.tool_result",
      {
        call_id: "t2",
        is_error: true,
        text: "1 failing\n  parseWeek: expected 2020-W53, got 2021-W53",
      },
    ],
    [
      19_000,
      "call.settled",
      {
        call_id: "c2",
        side: "normal",
        model: "qwen3-coder-next",
        input_tokens: 9_004,
        output_tokens: 1_210,
        cost_nanos: "31276800",
      },
    ],
    [19_500, "egress.refused", { host: "telemetry.example.org", method: "CONNECT" }],
    [
      24_000,
      "budget.threshold",
      { percent: 50, spent_nanos: "250000000", limit_nanos: "500000000" },
    ],
    [
      31_000,
      "phase.ended",
      { phase: "execute", exit_code: 0, signal: null, duration_ms: 21_700, outcome: "finished" },
    ],
    [31_200, "trial.state", { from: "running", to: "verifying" }],
    [31_300, "verify.started", {}],
    [
      40_900,
      "verify.ended",
      { verdict: "passed", tests_passed: 14, tests_failed: 0, duration_ms: 9_600 },
    ],
    [41_300, "trial.state", { from: "verifying", to: "succeeded" }],
  ];
  return told.map(([offsetMs, type, data], index) => ({
    seq: index + 1,
    trial_id: trialId,
    type,
    at: rfc3339(startedMs + offsetMs),
    data,
  }));
}

export function calls(ids: Ids, trialId: string, startedMs: EpochMs): Call[] {
  const made: Partial<Call>[] = [
    { side: "thinking", model: "qwen3-thinking", cost_nanos: "8041200", usage: usage(5_120, 402) },
    { cost_nanos: "31276800", usage: usage(9_004, 1_210, 6_144), duration_ms: 6_400 },
    {
      cost_nanos: "0",
      usage: usage(0, 0),
      status: 429,
      error: "rate_limited",
      duration_ms: 90,
      first_byte_ms: null,
    },
    { cost_nanos: "3000000", usage: usage(4_080, 320), is_estimated: true },
  ];
  return made.map((changes, index) => ({
    id: ids.next("call"),
    trial_id: trialId,
    wire: "openai.chat",
    side: "normal",
    model: "qwen3-coder-next",
    model_requested: "autocode-normal",
    provider: "openai",
    price_version: "qwen3-coder-next@2026-11-01",
    reserved_nanos: "50000000",
    cost_nanos: "0",
    usage: usage(0, 0),
    long_cache_write_tokens: 0,
    gpu_ms: null,
    attempts: [],
    is_estimated: false,
    status: 200,
    started_at: rfc3339(startedMs + 400 + index * 6_000),
    first_byte_ms: 380,
    duration_ms: 2_150,
    error: null,
    ...changes,
  }));
}

/** A recording; its second line colours text, its third is what only a terminal may be shown. */
export const RECORDING = [
  { version: 2, width: 100, height: 30, timestamp: 1_795_000_000, title: "qwen-code" },
  [0.1, "o", "\u001b[1;34m$\u001b[0m qwen --yolo\r\n"],
  [0.6, "o", "\u001b[32m✔\u001b[0m read src/date.js\r\n"],
  [1.2, "o", `${MARKUP}\r\n`],
  [2.0, "o", "\u001b[33m…\u001b[0m npm test\r\n  14 passing (1.2 s)\r\n"],
  [2.4, "o", "\u001b[1;32mDone.\u001b[0m Fixed parseWeek.\r\n"],
].map((line) => JSON.stringify(line));

export const PATCH = `diff --git a/src/date.js b/src/date.js
index 3f1c0de..9b2c111 100644
--- a/src/date.js
+++ b/src/date.js
@@ -12,8 +12,11 @@ export function parseDay(text) {
 }
 
 export function parseWeek(text) {
-  return new Date(text);
+  const [year, week] = text.split("-W").map(Number);
+  const fourth = Date.UTC(year, 0, 4);
+  const weekday = new Date(fourth).getUTCDay() || 7;
+  return new Date(fourth + (7 * (week - 1) - (weekday - 1)) * 86_400_000);
 }
 
-const NOTE = "${MARKUP}";
+const NOTE = ${JSON.stringify(MARKUP)};
 export const MONDAY = 1;
diff --git a/test/week.test.js b/test/week.test.js
new file mode 100644
index 0000000..1a2b3c4
--- /dev/null
+++ b/test/week.test.js
@@ -0,0 +1,4 @@
+import { parseWeek } from "../src/date.js";
+
+--- this line only looks like a header
+assert.equal(parseWeek("2020-W53").toISOString(), "2020-12-28T00:00:00.000Z");
\\ No newline at end of file
diff --git a/old name.txt b/new name.txt
similarity index 100%
rename from old name.txt
rename to new name.txt
diff --git a/logo.png b/logo.png
index 1111111..2222222 100644
Binary files a/logo.png and b/logo.png differ
`;
