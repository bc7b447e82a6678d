/**
 * Goal: what is wanted becomes what runs, whoever dies: engines are adopted, restarted, given up
 * with their own last words, drained before they end, and take turns where they must.
 *
 * Method: the real rows, duty and processes over a real database, with a fake engine behind.
 */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { sql } from "drizzle-orm";
import { rows } from "../../../orchestrator/db/rows.ts";
import { Problem } from "../../../orchestrator/problem.ts";
import { systemClock } from "../../../orchestrator/runtime/clock.ts";
import { createIds } from "../../../orchestrator/runtime/ids.ts";
import { createLog } from "../../../orchestrator/runtime/log.ts";
import { systemRandom } from "../../../orchestrator/runtime/random.ts";
import { listenAddress } from "../../../orchestrator/serving/engine-client.ts";
import { openServedModels } from "../../../orchestrator/serving/served-models.ts";
import { eventually } from "../../support/eventually.ts";
import { openServedWorld, states, storedWeights } from "../../support/served-models.ts";

const NORMAL = "qwen2.5-coder-14b-instruct";
const THINKING = "deepseek-r1-distill-qwen-14b";
const UP = { plan: { pair: "14b", gpu: "h100", gpu_count: 2 } };
const log = createLog("silent");
const ids = createIds(systemClock, systemRandom);

test("a pair comes up, is adopted by the next orchestrator, and goes down drained", async () => {
  await using world = await openServedWorld();
  const dry = await world.models.up({ ...UP, is_dry_run: true });
  assert.deepEqual([dry.plan?.pair, dry.engines, dry.is_wanted], ["coder-14b", [], false]);
  assert.deepEqual(await world.models.list(), []);

  const begun = await world.models.up(UP);
  assert.equal(states(begun), "starting starting");
  const up = await world.untilServed((served) => states(served) === "ready ready");
  assert.deepEqual(
    up?.engines.map(({ model, side, restarts }) => [model, side, restarts]),
    [
      [NORMAL, "normal", 0],
      [THINKING, "thinking", 0],
    ],
  );
  assert.equal(up?.forecast_wait_ms, 0);
  assert.deepEqual(states(await world.models.up(UP)), "ready ready", "up again is the same");
  await assert.rejects(
    world.models.up({ plan: { ...UP.plan, gpu_count: 4 } }),
    /is up by another plan/,
  );

  // Another orchestrator finds the engines, and starts none.
  const next = await world.openLife();
  await world.untilServed((served) => states(served) === "ready ready", next);
  for (const model of [NORMAL, THINKING]) {
    assert.equal(readFileSync(world.starts(model), "utf8").trim().split("\n").length, 1);
  }

  // A call that runs is answered before its engine ends.
  const url = up?.engines[0]?.base_url ?? "";
  const until = join(world.folder, "answer");
  const body = JSON.stringify({ model: NORMAL, hold_until: until });
  const call = fetch(`${url}/v1/chat/completions`, { method: "POST", body });
  await world.untilServed((served) => served?.engines[0]?.metrics?.running === 1);
  await world.models.down("14b");
  await world.untilServed((served) => states(served).startsWith("draining"));
  await world.servers.task.activate();
  assert.equal(states((await world.models.list())[0]).split(" ")[0], "draining");
  writeFileSync(until, "");
  assert.equal((await call).status, 200);
  await world.untilServed((served) => served === undefined);
  await next.launcher[Symbol.asyncDispose]();
  await assert.rejects(fetch(`${url}/health`));
  await assert.rejects(world.models.down("14b"), /coder-14b is not up/);
});

test("a crash is restarted, and given up after some; brought up again it is tried again", async () => {
  await using world = await openServedWorld();
  await world.models.up(UP);
  await world.untilServed((served) => states(served) === "ready ready");
  for (const restarts of [1, 2]) {
    const { base_url: url } = (await world.models.list())[0]?.engines[0] ?? { base_url: "" };
    await fetch(`${url}/crash`, { method: "POST" }).catch(() => {});
    const again = await world.untilServed(
      (served) => served?.engines[0]?.restarts === restarts && states(served) === "ready ready",
    );
    assert.equal(again?.engines[1]?.restarts, 0);
  }
  const { base_url: url } = (await world.models.list())[0]?.engines[0] ?? { base_url: "" };
  await fetch(`${url}/crash`, { method: "POST" }).catch(() => {});
  const failed = await world.untilServed((served) => states(served) === "failed ready");
  assert.match(failed?.engines[0]?.detail ?? "", /after 2 restarts/);
  assert.match(failed?.engines[0]?.detail ?? "", /Application startup complete/);
  await world.models.up(UP);
  await world.untilServed((served) => states(served) === "ready ready");
});

test("an engine that dies as it loads is failed at once, with its last lines", async () => {
  await using world = await openServedWorld({
    more: (model) => (model === THINKING ? ["--die", "1"] : []),
  });
  await world.models.up(UP);
  const failed = await world.untilServed((served) => states(served) === "ready failed");
  assert.match(failed?.engines[1]?.detail ?? "", /exit status 1.*before it answered/);
  assert.match(failed?.engines[1]?.detail ?? "", /CUDA out of memory/);
  const signal = AbortSignal.timeout(60_000);
  const engine = { pair: "14b", side: "thinking" } as const;
  let text = "";
  for await (const chunk of await world.models.logs(engine, { isFollowed: false, signal })) {
    text += Buffer.from(chunk).toString("utf8");
  }
  assert.match(text, /loading the weights[\s\S]*CUDA out of memory/);
});

test("a port that was taken since is exchanged; who closes says first that engines leave", async () => {
  await using world = await openServedWorld();
  const begun = await world.models.up(UP);
  const before = begun.engines.map(({ base_url: url }) => url);
  const taken = createServer();
  const { host, port } = listenAddress(before[0] ?? "");
  await new Promise<void>((resolve) => taken.listen(port, host, resolve));
  const up = await world.untilServed((served) => states(served) === "ready ready");
  const after = up?.engines.map(({ base_url: url }) => url) ?? [];
  assert.notEqual(after[0], before[0]);
  assert.equal(after[1], before[1]);
  await new Promise((resolve) => taken.close(resolve));

  await world.servers.endAll();
  const [ended] = await world.models.list();
  assert.equal(states(ended), "starting starting");
  const next = await world.openLife();
  await world.untilServed((served) => states(served) === "ready ready", next);
  await next.servers.endAll();
  await next.launcher[Symbol.asyncDispose]();
});

test("two leaders at once start one engine each side", async () => {
  await using world = await openServedWorld();
  const other = await world.openLife();
  await world.models.up(UP);
  await Promise.all([world.servers.task.activate(), other.servers.task.activate()]);
  await world.untilServed((served) => states(served) === "ready ready");
  await world.untilServed((served) => states(served) === "ready ready", other);
  for (const model of [NORMAL, THINKING]) {
    assert.equal(readFileSync(world.starts(model), "utf8").trim().split("\n").length, 1, model);
  }
  await other.launcher[Symbol.asyncDispose]();
});

test("models that alternate take turns: who calls is waited for, and told the swap's cost", async () => {
  await using world = await openServedWorld({ residency: "alternate" });
  await world.models.up(UP);
  // Each is seen to answer once.
  await world.untilServed((served) => states(served) === "sleeping ready");
  await using served = await openServedModels(
    { db: world.database, clock: systemClock, log },
    () => {},
    { periodMs: 20, waitMaxMs: 20_000 },
  );
  const trialId = ids.next("trial");
  let isThere = false;
  const there = served.until("served/coder-14b/normal", trialId).then(() => {
    isThere = true;
  });
  await world.untilServed((now) => states(now) === "ready sleeping" && isThere);
  await there;
  const [event] = await eventually(
    () => world.told,
    ({ length }) => length === 1,
  );
  assert.equal(event?.trialId, trialId);
  const { pair, side, gpu_ms: gpuMs, ...paid } = event?.data ?? {};
  assert.deepEqual([pair, side], ["coder-14b", "normal"]);
  assert.ok(Number(gpuMs) > 0);
  assert.deepEqual([paid["charged_nanos"], paid["uncharged_reason"]], ["0", "its trial is gone"]);
});

test("weights of whoever waits for its turn are pulled meanwhile", async () => {
  const { find, ...rest } = storedWeights();
  const pulled = new Set<string>();
  const thinking = Promise.withResolvers<void>();
  await using world = await openServedWorld({
    residency: "alternate",
    weights: {
      ...rest,
      find: async (model, quantisation) => (pulled.has(model) ? find(model, quantisation) : null),
      pull: async (card, _quantisation, { onProgress }) => {
        const line = {
          model: card.name,
          quantisation: "bf16",
          step: "fetching",
          detail: "",
        } as const;
        const speed = { bytes_per_second: null, eta_ms: null };
        onProgress({ ...line, ...speed, bytes: 1, bytes_total: 4 });
        if (card.name === THINKING) await thinking.promise;
        pulled.add(card.name);
        return { dir: "/weights", revision: "" };
      },
    },
  });
  await world.models.up(UP);
  const both = await world.untilServed((served) => states(served) === "ready starting");
  assert.equal(both?.engines[1]?.detail, "pulls its weights 25 %");
  thinking.resolve();
  await world.untilServed((served) => states(served) === "sleeping ready");
});

test("weights are pulled first, and what the pull says is what the engine fails with", async () => {
  const { find, ...rest } = storedWeights();
  const pulled = new Set<string>();
  await using world = await openServedWorld({
    weights: {
      ...rest,
      find: async (model, quantisation) => (pulled.has(model) ? find(model, quantisation) : null),
      pull: async (card) => {
        if (card.name === THINKING) throw new Problem("conflict", "offline: put it into the store");
        pulled.add(card.name);
        return { dir: "/weights", revision: "" };
      },
    },
  });
  await world.models.up(UP);
  const failed = await world.untilServed((served) => states(served) === "ready failed");
  assert.equal(failed?.engines[1]?.detail, "offline: put it into the store");
});

test("an engine that does not end holds no round but those in which it is tried", async () => {
  let nowMs = 0;
  let isStuck = true;
  let tries = 0;
  await using world = await openServedWorld({
    nowMs: () => nowMs,
    launcher: (real) => ({
      ...real,
      stop: async (id) => {
        if (!id.endsWith(".normal") || !isStuck) return real.stop(id);
        tries += 1;
        throw new Problem("conflict", "process 7 stayed after SIGKILL");
      },
    }),
  });
  await world.models.up(UP);
  await world.untilServed((served) => states(served) === "ready ready");
  await world.models.down("14b");
  const alone = await world.untilServed((served) => served?.engines.length === 1);
  const [stuck] = alone?.engines ?? [];
  assert.deepEqual([stuck?.side, stuck?.state], ["normal", "draining"]);
  await world.untilServed((served) => served?.engines[0]?.detail.includes("SIGKILL") === true);
  for (let round = 0; round < 5; round++) await world.servers.task.activate();
  assert.equal(tries, 1, "rounds go on without it");
  nowMs += 30_000;
  for (let round = 0; round < 5; round++) await world.servers.task.activate();
  nowMs += 59_999;
  await world.servers.task.activate();
  assert.equal(tries, 2, "and wait twice as long for the next try");
  nowMs += 1;
  isStuck = false;
  await world.untilServed((served) => served === undefined);
});

test("a pair that does not fit is refused with the number and what would work", async () => {
  await using world = await openServedWorld();
  await assert.rejects(
    world.models.up({ plan: { pair: "32b", gpu: "rtx-4090", gpu_count: 1 } }),
    (error) => {
      assert.ok(error instanceof Problem && error.code === "conflict");
      assert.match(error.message, /Instead: /);
      return true;
    },
  );
  await assert.rejects(world.models.up({ plan: { ...UP.plan, gpu: "h10" } }), /h10/);
  assert.deepEqual(await rows(world.database.sql, sql`select from own_model_price`), []);
});
