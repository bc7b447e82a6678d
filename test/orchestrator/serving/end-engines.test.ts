/**
 * Goal: engines that end with their machine's last orchestrator cut no call that a gateway of
 * another process has at them, but for one that takes too long; what answers nothing waits for
 * nothing. That holds where two end at once, where another comes meanwhile, and for a missed look.
 *
 * Method: real rows and processes, with a fake engine behind; calls go past every gateway of ours.
 */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { EngineLauncher } from "../../../orchestrator/serving/serving.ts";
import { eventually } from "../../support/eventually.ts";
import { openServedWorld, type ServedWorld, states } from "../../support/served-models.ts";

const NORMAL = "qwen2.5-coder-14b-instruct";
const ENGINE = "coder-14b.normal";
const UP = { plan: { pair: "14b", gpu: "h100", gpu_count: 2 } };
let calls = 0;

test("calls of other gateways are waited for, so long and no longer", async () => {
  await using world = await openServedWorld({ engine: { endMaxMs: 120_000 } });
  const { call, answer } = await callHeld(world);
  const ended = world.servers.endAll();
  // The other engine has nothing to answer, and ends; this one does not before its call.
  const isGone = async () => (await world.launcher.condition("coder-14b.thinking")).state;
  await eventually(isGone, (state) => state === "absent", 20_000);
  assert.equal((await world.launcher.condition("coder-14b.normal")).state, "running");
  answer();
  assert.equal((await call).status, 200);
  await ended;
  assert.equal((await world.launcher.condition("coder-14b.normal")).state, "absent");

  const next = await world.openLife({ endMaxMs: 1 });
  const cut = assert.rejects((await callHeld(world, next)).call);
  await next.servers.endAll();
  await cut;
  await next.launcher[Symbol.asyncDispose]();
});

test("where two end at once, neither ends an engine under a call", async () => {
  const lives: { looks: number; stopped: string[] }[] = [];
  const launcher = (real: EngineLauncher): EngineLauncher => {
    const life = { looks: 0, stopped: [] as string[] };
    lives.push(life);
    return {
      ...real,
      condition: async (id) => {
        if (id === ENGINE) life.looks += 1;
        return real.condition(id);
      },
      stop: async (id) => {
        life.stopped.push(id);
        await real.stop(id);
      },
    };
  };
  await using world = await openServedWorld({ engine: { endMaxMs: 120_000 }, launcher });
  const other = await world.openLife();
  const { call, answer } = await callHeld(world);
  const first = world.servers.endAll();
  const look = async () => (await world.models.list())[0];
  await eventually(look, (served) => states(served) === "starting starting", 20_000);
  const second = other.servers.endAll();
  const later = () => lives[1];
  await eventually(later, (life) => life !== undefined && life.looks >= 3, 20_000);
  assert.deepEqual(lives.flatMap(({ stopped }) => stopped).includes(ENGINE), false);
  answer();
  assert.equal((await call).status, 200);
  await Promise.all([first, second]);
  assert.equal((await world.launcher.condition(ENGINE)).state, "absent");
  await other.launcher[Symbol.asyncDispose]();
});

test("an orchestrator that comes meanwhile keeps what has not ended", async () => {
  let isShared = false;
  await using world = await openServedWorld({
    engine: { endMaxMs: 120_000 },
    isShared: () => isShared,
  });
  const { call, answer } = await callHeld(world);
  const ended = world.servers.endAll();
  const look = async () => (await world.models.list())[0];
  await eventually(look, (served) => states(served) === "starting starting", 20_000);
  isShared = true;
  const next = await world.openLife();
  await world.untilServed((served) => states(served) === "ready ready", next);
  await ended;
  assert.equal((await world.launcher.condition(ENGINE)).state, "running");
  answer();
  assert.equal((await call).status, 200);
  // Nor does an end with another there begin one.
  await next.servers.endAll();
  assert.equal(states((await world.models.list())[0]), "ready ready");
  assert.equal((await world.launcher.condition(ENGINE)).state, "running");
  assert.equal(readFileSync(world.starts(NORMAL), "utf8").trim().split("\n").length, 1);
  await next.launcher[Symbol.asyncDispose]();
});

test("an engine with a call may miss looks, and not all of them", async () => {
  await using world = await openServedWorld({ engine: { endMaxMs: 120_000, missesMax: 10 } });
  const { url, call, answer } = await callHeld(world);
  const missed = async (looks: number) => {
    await fetch(`${url}/miss?looks=${looks}`, { method: "POST" });
    const left = async () => (await fetch(`${url}/miss`)).json();
    await eventually(left, (count) => count === 0, 20_000);
  };
  const ended = world.servers.endAll();
  // The first may come before gateways have had their time to hear of it.
  await missed(3);
  assert.equal((await world.launcher.condition(ENGINE)).state, "running");
  answer();
  assert.equal((await call).status, 200);
  await ended;

  const next = await world.openLife();
  const again = await callHeld(world, next);
  const cut = assert.rejects(again.call);
  await fetch(`${again.url}/miss?looks=1000`, { method: "POST" });
  await next.servers.endAll();
  await cut;
  await next.launcher[Symbol.asyncDispose]();
});

/** The pair is up, and its normal engine has a call that ends with `answer`. */
async function callHeld(
  world: ServedWorld,
  life: Pick<ServedWorld, "servers" | "models"> = world,
): Promise<{ url: string; call: Promise<Response>; answer: () => void }> {
  await life.models.up(UP);
  const up = await world.untilServed((served) => states(served) === "ready ready", life);
  const url = up?.engines[0]?.base_url ?? "";
  const until = join(world.folder, `answer-${calls++}`);
  const body = JSON.stringify({ model: NORMAL, hold_until: until });
  const call = fetch(`${url}/v1/chat/completions`, { method: "POST", body });
  await world.untilServed((served) => served?.engines[0]?.metrics?.running === 1, life);
  return { url, call, answer: () => writeFileSync(until, "") };
}
