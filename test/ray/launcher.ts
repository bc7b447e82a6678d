/**
 * Goal: the launcher's suite holds on Ray itself, and an engine that it deploys there is vLLM
 * behind Ray's ingress, at a path of its own, for our gateway.
 *
 * Method: Ray on processors in a network of its own (`npm run test:ray`); first with an engine that
 * loads nothing, then with vLLM and a tiny model.
 */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { rayApplication } from "../../models/serving/ray-config.ts";
import { gatewayTo } from "../models/serving/engine/gateway.ts";
import { testLauncher } from "../orchestrator/serving/conformance.ts";
import { eventually } from "../support/eventually.ts";
import { modelPlan } from "../support/model-plan.ts";
import { openRayLauncher, PLAN } from "../support/ray-launcher.ts";
import { RAY_DASHBOARD, startRay, TINY_WEIGHTS, whyNoRay } from "../support/ray-server.ts";
import { TINY_CARD } from "../support/vllm.ts";

const skip = whyNoRay();
/** Seconds where nothing else runs. */
const STARTED_MS = 300_000;
const LOADED_MS = 1_200_000;
const POLL_MS = 500;
const INGRESS = "http://127.0.0.1:18000";
let ray: Awaited<ReturnType<typeof startRay>> | null = null;

before(async () => {
  if (skip === false) ray = await startRay();
});
after(async () => {
  await ray?.[Symbol.asyncDispose]();
});

function openWorld() {
  return openRayLauncher({ url: RAY_DASHBOARD, ingressUrl: INGRESS, pollMs: POLL_MS });
}

testLauncher("ray", async () => openWorld(), { startMs: STARTED_MS, skip });

test("vLLM at a path of Ray's ingress answers our gateway", { skip }, async (t) => {
  const started = performance.now();
  await using world = openWorld();
  const plan = modelPlan(TINY_CARD, {
    ...{ gpus: [], max_sequences: 8, context_tokens: 8192 },
    memory: [{ part: "kv_cache", bytes: 2 ** 30 }],
  });
  const weightsDirs = new Map([[TINY_CARD.name, TINY_WEIGHTS]]);
  const cards = new Map([[TINY_CARD.name, TINY_CARD]]);
  const application = rayApplication(PLAN, [plan], cards, { weightsDirs, replicasMax: 1 });
  for (const { engine_kwargs: kwargs } of application.args.llm_configs) {
    kwargs["enforce_eager"] = true;
  }
  const spec = {
    ...(await world.specOf("p.normal", { dies: false })),
    model: TINY_CARD.name,
    program: { kind: "application", application },
  } as const;
  await world.launcher.start(spec);
  try {
    await eventually(
      async () => {
        const condition = await world.launcher.condition(spec.id);
        assert.notEqual(condition.state, "ended", JSON.stringify(condition));
        return world.answers(spec);
      },
      Boolean,
      LOADED_MS,
    );
    t.diagnostic(`loaded after ${Math.round((performance.now() - started) / 1000)} s`);
    await using gateway = await gatewayTo(
      { url: spec.baseUrl },
      { model: { upstreamName: TINY_CARD.name } },
    );
    const response = await gateway.chat({ max_tokens: 16, ignore_eos: true });
    const text = await response.text();
    assert.equal(response.status, 200, text);
    assert.match(text, /"completion_tokens":16/);
    const [call] = await gateway.calls();
    assert.equal(Number(call?.["output_tokens"]), 16);
    // Ray collects its workers' figures every few seconds.
    await eventually(
      () => world.client.metrics(spec.baseUrl),
      (figures) => /ray_vllm_generation_tokens_total\{.*\} 16[.]0/.test(figures ?? ""),
      STARTED_MS,
    );
  } finally {
    await world.launcher.stop(spec.id);
  }
});
