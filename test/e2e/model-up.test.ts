/**
 * Goal: a pair on this machine's own GPUs is brought up, answers a trial's calls at its plan's
 * price, outlives what is killed, and leaves nothing behind.
 *
 * Method: a real installation whose Python with vLLM is a stand-in that speaks as vLLM does. Its
 * weights are made up; the trial's agent only waits, so that its key can be used from here.
 */
import assert from "node:assert/strict";
import { chmod, mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import test, { type TestContext } from "node:test";
import { loadCatalog } from "../../models/catalog.ts";
import type { PairPlan, ServedPair, ServedPairList } from "../../orchestrator/contract/models.ts";
import type { PriceReport } from "../../orchestrator/contract/prices.ts";
import type { Trial } from "../../orchestrator/contract/trials.ts";
import { eventually } from "../support/eventually.ts";
import { madeUpFiles } from "../support/fake-hub.ts";
import {
  type Installation,
  makeProject,
  openFolder,
  openInstallation,
  ROOT,
} from "../support/installation.ts";

const PAIR = "coder-7b";
/** Of the stand-in, for each call. */
const [PROMPT_TOKENS, OUTPUT_TOKENS] = [100n, 20n];
const SOON_MS = 60_000;

test("a pair on own GPUs lives, is paid for, survives and ends", async (t: TestContext) => {
  await using programs = await openFolder();
  const python = join(programs.path, "python");
  const fake = join(ROOT, "test/support/fake-engine.ts");
  await writeProgram(python, `exec ${process.execPath} ${fake} "$@"`);
  await using installation = await openInstallation({
    agents: false,
    env: { AUTOCODE_GPUS: "2x l40s", AUTOCODE_VLLM_PYTHON: python, AUTOCODE_OFFLINE: "on" },
  });
  await installWaitingAgent(installation);
  await installation.start();
  let plan: PairPlan | null = null;
  let ask: Ask = () => assert.fail("no trial has begun");
  let id = "";

  await t.test("without its weights it fails, and says what to do", async () => {
    const { exit, err } = await installation.cli("model", "up", PAIR);
    assert.equal(exit, 1, err);
    assert.match(err, /has failed: .*AUTOCODE_OFFLINE.*--from/s);
    const { served } = await installation.get<ServedPairList>("models/served");
    plan = served[0]?.plan ?? null;
    assert.equal(plan?.gpu, "l40s");
  });

  await t.test("up: both engines answer", async () => {
    for (const model of plan?.models ?? []) await putWeights(installation, model);
    const served = await installation.json<ServedPair>("model", "up", PAIR);
    assert.deepEqual(
      served.engines.map(({ state, side }) => [side, state]),
      [
        ["normal", "ready"],
        ["thinking", "ready"],
      ],
    );
    const { out } = await installation.cli("model", "ls");
    assert.match(out, /^coder-7b .* yes +ready/m);
    const log = await installation.cli("model", "logs", PAIR, "--side", "thinking");
    assert.match(log.out, /^loading the weights of deepseek-r1-distill-qwen-7b$/m);
  });

  await t.test("a trial's calls are charged by the plan", async () => {
    await makeProject(installation, "own", [`pairs: [${PAIR}]`, "agents: [aider]"]);
    const what = ["--project", "own", "--task", "fix-median", "-a", "aider", "-m", PAIR];
    ({ id } = await installation.json<Trial>("trial", "run", ...what, "--detach"));
    ask = await keyHolder(installation);
    for (const side of ["normal", "thinking"] as const) {
      const { status, text } = await ask(side);
      assert.equal(status, 200, text);
      const model = plan?.models.find((each) => each.side === side)?.model ?? "";
      assert.match(text, new RegExp(`from ${model}`));
      await isChargedByPlan(installation, id, side, model);
    }
  });

  await t.test("an engine that is killed is started again, and calls wait for it", async () => {
    const before = await enginePids(installation);
    process.kill(before[0] ?? 0, "SIGKILL");
    await eventually(
      () => enginesOf(installation),
      (engines) => engines[0]?.state === "starting",
      SOON_MS,
    );
    const { status, text } = await ask("normal");
    assert.equal(status, 200, text);
    const after = await enginePids(installation);
    assert.notEqual(after[0], before[0]);
    assert.equal(after[1], before[1], "the other is left alone");
    const [engine] = await enginesOf(installation);
    assert.deepEqual([engine?.state, engine?.restarts], ["ready", 1]);
  });

  await t.test("engines outlive the orchestrator", async () => {
    const before = await enginePids(installation);
    await installation.kill9();
    await installation.start();
    const engines = await eventually(
      () => enginesOf(installation),
      (all) => all.every(({ state }) => state === "ready"),
      SOON_MS,
    );
    assert.equal(engines.length, 2);
    assert.deepEqual(await enginePids(installation), before);
    const { status, text } = await ask("thinking");
    assert.equal(status, 200, text);
  });

  await t.test("stopped, the gateway ends its last call before the engines end", async () => {
    const until = join(installation.folder, "answer");
    const call = ask("normal", { hold_until: until });
    await eventually(
      () => enginesOf(installation),
      (engines) => engines[0]?.metrics?.running === 1,
      SOON_MS,
    );
    const gateway = gatewayOf(installation);
    const stopped = installation.stop();
    // It takes no new call: it is being closed.
    await eventually(
      () =>
        fetch(gateway).then(
          () => false,
          () => true,
        ),
      (isClosed) => isClosed,
      SOON_MS,
    );
    await writeFile(until, "");
    const { status, text } = await call;
    assert.equal(status, 200, text);
    await stopped;
    assert.deepEqual(await enginePids(installation), []);
    await installation.start();
    const engines = await eventually(
      () => enginesOf(installation),
      (all) => all.length === 2 && all.every(({ state }) => state === "ready"),
      SOON_MS,
    );
    assert.equal(engines.length, 2);
    // Its worker ended with the orchestrator; the next one has another key.
    ask = await keyHolder(installation);
  });

  await t.test("down: both end, and a call is told what to do", async () => {
    const { exit, err } = await installation.cli("model", "down", PAIR);
    assert.equal(exit, 0, err);
    await eventually(
      () => enginesOf(installation),
      (engines) => engines.length === 0,
      SOON_MS,
    );
    assert.deepEqual(await enginePids(installation), []);
    const { status, text } = await ask("normal");
    assert.equal(status, 503, text);
    assert.match(text, /bring it up: autocode model up coder-7b/);
    assert.equal((await installation.cli("trial", "stop", id)).exit, 0);
    await installation.untilState(id, ["cancelled"]);
    await installation.stop();
  });
});

type Ask = (
  side: "normal" | "thinking",
  more?: Record<string, unknown>,
) => Promise<{ status: number; text: string }>;

async function writeProgram(path: string, script: string): Promise<void> {
  await writeFile(path, `#!/bin/sh\n${script}\n`);
  await chmod(path, 0o755);
}

/** In Aider's place: it has the trial's key in its environment, and waits. */
async function installWaitingAgent({ home }: Installation): Promise<void> {
  const version = "0.86.2";
  const dir = join(home, "shared/agents/aider", version);
  await mkdir(join(dir, "bin"), { recursive: true, mode: 0o755 });
  await writeProgram(join(dir, "bin/python"), "sleep 600 & wait");
  const marker = JSON.stringify({ name: "aider", version });
  await writeFile(join(dir, ".autocode-install.json"), marker);
}

/** Small files that say they are the model of the card. */
async function putWeights(
  installation: Installation,
  { model, quantisation }: PairPlan["models"][number],
): Promise<void> {
  const card = (await loadCatalog(join(ROOT, "models"))).cards.get(model);
  assert.ok(card !== undefined);
  const { layers, hidden, heads, kvHeads, vocabulary } = card.architecture;
  const config = {
    ...{ num_hidden_layers: layers, hidden_size: hidden, num_attention_heads: heads },
    ...{ num_key_value_heads: kvHeads, vocab_size: vocabulary },
  };
  const dir = join(installation.folder, model);
  await mkdir(dir);
  const files = madeUpFiles();
  files.set("config.json", Buffer.from(JSON.stringify(config)));
  for (const [path, bytes] of files) {
    if (!path.includes("/")) await writeFile(join(dir, path), bytes);
  }
  const what = [model, "--quantisation", quantisation, "--from", dir];
  const { exit, err } = await installation.cli("model", "pull", ...what);
  assert.equal(exit, 0, err);
}

/** Asks the gateway with the key of the one trial that runs. */
async function keyHolder(installation: Installation): Promise<Ask> {
  const key = await eventually(async () => keyOf(installation), Boolean, SOON_MS);
  return async (side, more = {}) => {
    const response = await fetch(`${gatewayOf(installation)}/v1/chat/completions`, {
      method: "POST",
      headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
      body: JSON.stringify({
        ...{ model: side, max_tokens: 100, ...more },
        messages: [{ role: "user", content: "Mend it." }],
      }),
    });
    return { status: response.status, text: await response.text() };
  };
}

function gatewayOf(installation: Installation): string {
  return /gateway at (http:\S+)/.exec(installation.output())?.[1] ?? "";
}

async function keyOf(installation: Installation): Promise<string | null> {
  for (const { pid, command } of await installation.processes()) {
    if (!command.includes("agents/aider")) continue;
    const environment = await readFile(`/proc/${pid}/environ`, "latin1").catch(() => "");
    const found = /(?:^|\0)OPENAI_API_KEY=([^\0]+)/.exec(environment)?.[1];
    if (found !== undefined) return found;
  }
  return null;
}

/** As `model price` shows it, whose source is the plan: each kind of token rounded up to a nano. */
async function isChargedByPlan(
  installation: Installation,
  id: string,
  side: "normal" | "thinking",
  model: string,
): Promise<void> {
  const query = new URLSearchParams({ model, currency: "CAD" });
  const { price, entries } = await installation.get<PriceReport>(`prices/explain?${query}`);
  const source = entries.find(({ is_in_force: isInForce }) => isInForce)?.source ?? "";
  assert.match(source, /^plan of coder-7b on 2 x l40s/);
  const cost = (tokens: bigint, rate: string) => (tokens * BigInt(rate) + 999_999n) / 1_000_000n;
  const nanos =
    cost(PROMPT_TOKENS, price.input_nanos_per_million) +
    cost(OUTPUT_TOKENS, price.output_nanos_per_million);
  const look = async () => (await installation.calls(id)).find((each) => each.side === side);
  const call = await eventually(look, Boolean, SOON_MS);
  assert.equal(call?.provider, `served/${PAIR}/${side}`);
  assert.ok(nanos > 0n);
  assert.equal(BigInt(call?.cost_nanos ?? 0), nanos);
}

async function enginesOf(installation: Installation): Promise<ServedPair["engines"]> {
  const { served } = await installation.get<ServedPairList>("models/served");
  return served.flatMap(({ engines }) => engines);
}

/** Normal, thinking. */
async function enginePids(installation: Installation): Promise<number[]> {
  const running = await installation.processes();
  const sides = ["qwen2.5-coder-7b-instruct", "deepseek-r1-distill-qwen-7b"];
  return sides.flatMap((model) =>
    running.flatMap(({ pid, command }) =>
      command.includes(`--served-model-name ${model} `) ? [pid] : [],
    ),
  );
}
