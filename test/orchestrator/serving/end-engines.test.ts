/**
 * Goal: engines that end with their machine's last orchestrator cut no call that a gateway of
 * another process has at them, but for one that takes too long; what answers nothing waits for
 * nothing.
 *
 * Method: real rows and processes, with a fake engine behind; calls go past every gateway of ours.
 */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { eventually } from "../../support/eventually.ts";
import { openServedWorld, states } from "../../support/served-models.ts";

const NORMAL = "qwen2.5-coder-14b-instruct";
const UP = { plan: { pair: "14b", gpu: "h100", gpu_count: 2 } };

test("calls of other gateways are waited for, so long and no longer", async () => {
  await using world = await openServedWorld({ engine: { endMaxMs: 120_000 } });
  await world.models.up(UP);
  const up = await world.untilServed((served) => states(served) === "ready ready");
  const until = join(world.folder, "answer");
  const body = JSON.stringify({ model: NORMAL, hold_until: until });
  const call = fetch(`${up?.engines[0]?.base_url}/v1/chat/completions`, { method: "POST", body });
  await world.untilServed((served) => served?.engines[0]?.metrics?.running === 1);
  const ended = world.servers.endAll();
  // The other engine has nothing to answer, and ends; this one does not before its call.
  const isGone = async () => (await world.launcher.condition("coder-14b.thinking")).state;
  await eventually(isGone, (state) => state === "absent", 20_000);
  assert.equal((await world.launcher.condition("coder-14b.normal")).state, "running");
  writeFileSync(until, "");
  assert.equal((await call).status, 200);
  await ended;
  assert.equal((await world.launcher.condition("coder-14b.normal")).state, "absent");

  const next = await world.openLife({ endMaxMs: 1 });
  const again = await world.untilServed((served) => states(served) === "ready ready", next);
  const never = JSON.stringify({ model: NORMAL, hold_until: join(world.folder, "never") });
  const url = `${again?.engines[0]?.base_url}/v1/chat/completions`;
  const cut = assert.rejects(fetch(url, { method: "POST", body: never }));
  await world.untilServed((served) => served?.engines[0]?.metrics?.running === 1, next);
  await next.servers.endAll();
  await cut;
  await next.launcher[Symbol.asyncDispose]();
});
