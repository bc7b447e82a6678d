/**
 * vLLM itself, for one test file: a real engine on this machine's processors with a tiny model of
 * random weights, at a port of its own on loopback, started with the very command that serves a
 * planned model. It takes a minute or two and 2 GB: one is enough for a file.
 *
 * Invariant: it is ended with all of its processes, by the id of their group, which is ours.
 */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { env } from "node:process";
import type { ModelCard } from "../../models/card.ts";
import { vllmCommand } from "../../models/serving/vllm-command.ts";
import { readCounters } from "../../orchestrator/traffic/usage-vllm.ts";
import { eventually } from "./eventually.ts";
import { freePort } from "./free-port.ts";
import { CODER_CARD, modelPlan } from "./model-plan.ts";

export const ENGINES = join(import.meta.dirname, "../../.engines");
const PYTHON = env["AUTOCODE_VLLM_PYTHON"] ?? join(ENGINES, "vllm/bin/python");
const TINY = join(ENGINES, "vllm-models/tiny");
/** On a machine that is busy: idle it takes a fifth of that. */
const START_MS = 400_000;
const GRACE_MS = 10_000;
const LINES_MAX = 40;
/** The least that it takes. */
const CACHE_BYTES = 2 ** 30;

/** For a test's `skip`: why, or false. Required engines are never skipped. */
export const vllmSkip: string | false =
  (existsSync(PYTHON) && existsSync(TINY)) || env["AUTOCODE_REQUIRE_ENGINES"] === "all"
    ? false
    : "vLLM is not installed: npm run engines vllm";

/** What `tools/engines/vllm/make-tiny-model.py` makes. */
export const TINY_CARD: ModelCard = {
  ...CODER_CARD,
  name: "tiny",
  title: "Random weights",
  parameters: { total: 336_000, active: 336_000 },
  architecture: {
    ...CODER_CARD.architecture,
    ...{ layers: 2, hidden: 64, intermediate: 128, heads: 2, kvHeads: 1, headDim: 32 },
    ...{ vocabulary: 4096, contextTokens: 131_072, hasTiedEmbeddings: true },
  },
  quantisations: [
    {
      name: "bf16",
      repository: "autocode/tiny",
      revision: null,
      isAtLoad: false,
      weightBytes: 672_000,
    },
  ],
  toolParser: { name: "qwen25_coder", plugin: "qwen25_coder_tool_parser.py" },
  reasoningParser: "qwen3",
  sampling: { temperature: 1, topP: 1, topK: null, repetitionPenalty: null },
  contextTokens: 65_536,
  maxOutputTokens: 8192,
};

/** Beside the command's own: what a random model on two cores needs to answer soon. */
const FOR_TESTS = [
  "--enforce-eager",
  // One process less that loads all of it anew.
  ...["--distributed-executor-backend", "uni"],
  // It thinks only when it is asked to, so that one engine shows both.
  ...["--default-chat-template-kwargs", '{"enable_thinking": false}'],
  // Random weights would fill what JSON allows between its parts with spaces.
  ...["--structured-outputs-config", '{"backend":"xgrammar","disable_any_whitespace":true}'],
];

export interface VllmOptions {
  readonly card?: ModelCard;
  readonly weightsDir?: string;
  /** For an engine that takes the place of another. */
  readonly port?: number;
  readonly arguments?: readonly string[];
}

export interface Vllm extends AsyncDisposable {
  readonly url: string;
  readonly port: number;
  readonly pid: number;
  /** The end of what it printed. */
  lastLines(): string;
  /** Its own counters since its start, of the model that it serves. */
  counted(): Promise<{ inputTokens: number; outputTokens: number }>;
  /** Sequences that it works on now. */
  running(): Promise<number>;
  /** As a machine does that runs out of memory: the server's process, or all, without a word. */
  kill9(): Promise<void>;
}

/** Waits until it answers. @throws AssertionError with its last lines when it ends before. */
export async function openVllm(options: VllmOptions = {}): Promise<Vllm> {
  const { card = TINY_CARD, weightsDir = TINY, port = await freePort() } = options;
  const home = await mkdtemp(join(tmpdir(), "autocode-vllm-"));
  const plan = modelPlan(card, {
    gpus: [],
    context_tokens: card.contextTokens,
    max_sequences: 64,
    memory: [{ part: "kv_cache", bytes: CACHE_BYTES }],
  });
  const rendered = vllmCommand({ card, plan, weightsDir, host: "127.0.0.1", port, python: PYTHON });
  const [file = "", ...given] = rendered.argv;
  const args = [...given, ...FOR_TESTS, ...(options.arguments ?? [])];
  const child = spawn(file, args, {
    // A group of its own: its processes are ended with it.
    detached: true,
    cwd: home,
    env: { PATH: env["PATH"] ?? "", HOME: home, OMP_NUM_THREADS: "1", ...rendered.env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const lines = keepLines(child);
  const url = `http://127.0.0.1:${port}`;
  const engine = { url, port, lastLines: () => lines.join("\n"), counted, running, kill9 };
  const opened = { ...engine, pid: child.pid ?? 0, [Symbol.asyncDispose]: close };
  try {
    await eventually(isUp, Boolean, START_MS);
  } catch (error) {
    await close();
    assert.fail(`vLLM did not come up: ${(error as Error).message}\n${lines.join("\n")}`);
  }
  return opened;

  async function isUp(): Promise<boolean> {
    if (hasEnded(child)) throw new Error(`it ended with ${child.exitCode ?? child.signalCode}`);
    await new Promise((resolve) => setTimeout(resolve, 200));
    return fetch(`${url}/health`).then(
      ({ ok }) => ok,
      () => false,
    );
  }

  async function counted() {
    const found = readCounters(await metrics()).find(({ model }) => model === card.name);
    assert.ok(found !== undefined, "the engine has no counters of the model");
    return { inputTokens: found.inputTokens, outputTokens: found.outputTokens };
  }

  async function running(): Promise<number> {
    const found = /^vllm:num_requests_running\{[^}]*\} ([0-9.e+]+)$/m.exec(await metrics());
    assert.ok(found !== null, "the engine does not say how many run");
    return Number(found[1]);
  }

  async function metrics(): Promise<string> {
    const response = await fetch(`${url}/metrics`);
    assert.equal(response.status, 200);
    return response.text();
  }

  async function kill9(): Promise<void> {
    signal("SIGKILL");
    await eventually(() => hasEnded(child), Boolean, GRACE_MS);
  }

  async function close(): Promise<void> {
    if (!hasEnded(child)) {
      signal("SIGTERM");
      await eventually(() => hasEnded(child), Boolean, GRACE_MS).catch(() => undefined);
    }
    // Those of its group that its end left behind.
    signal("SIGKILL");
    await eventually(() => hasEnded(child), Boolean, GRACE_MS);
    await rm(home, { recursive: true, force: true });
  }

  function signal(name: NodeJS.Signals): void {
    if (child.pid === undefined) return;
    try {
      process.kill(-child.pid, name);
    } catch {
      // None of them is left.
    }
  }
}

function keepLines(child: ChildProcess): string[] {
  const lines: string[] = [];
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding("utf8").on("data", (text: string) => {
      lines.push(...text.split("\n").filter((line) => line.trim() !== ""));
      lines.splice(0, Math.max(0, lines.length - LINES_MAX));
    });
  }
  return lines;
}

function hasEnded({ exitCode, signalCode }: ChildProcess): boolean {
  return exitCode !== null || signalCode !== null;
}
