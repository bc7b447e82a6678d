/** Goal: the launcher that is configured is in force, and doctor says whether it answers. */
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "node:test";
import { openLauncher } from "../../orchestrator/compose-launcher.ts";
import { readConfig } from "../../orchestrator/config.ts";
import { createLog } from "../../orchestrator/runtime/log.ts";
import type { EngineToStart } from "../../orchestrator/serving/servers.ts";
import { CODER_CARD, modelPlan, pairPlan } from "../support/model-plan.ts";
import { openRayStub } from "../support/ray-stub.ts";

const log = createLog("silent");
const ENGINE: EngineToStart = {
  ...{ id: "p.normal", card: CODER_CARD, plan: modelPlan(CODER_CARD), pairPlan: pairPlan() },
  ...{ weightsDir: "/data/weights/coder/1", baseUrl: "http://127.0.0.1:8123", isSleepable: false },
};

async function open(env: Record<string, string>) {
  const folder = await mkdtemp(join(tmpdir(), "autocode-launcher-"));
  const config = readConfig({ AUTOCODE_HOME: folder, ...env }, folder);
  const layout = { engines: join(folder, "e"), logs: join(folder, "l"), weights: "/data/weights" };
  const opened = await openLauncher({ layout, log }, config);
  return {
    ...opened,
    [Symbol.asyncDispose]: async () => {
      await opened.launcher[Symbol.asyncDispose]();
      await rm(folder, { recursive: true });
    },
  };
}

test("processes of this machine, unless a Ray is named", async () => {
  await using opened = await open({});
  assert.equal(opened.launcher.name, "processes");
  const program = opened.program(ENGINE);
  assert.ok(program.kind === "command");
  assert.deepEqual(program.argv.slice(-4), ["--host", "127.0.0.1", "--port", "8123"]);
  assert.deepEqual(await opened.describe(), {
    ...{ part: "engine launcher", status: "ok", next_step: null },
    detail: "processes of this machine, at 127.0.0.1; AUTOCODE_RAY_URL is not set",
  });
});

test("Ray, with folders as its nodes see them; one that is away is said, and what to do", async () => {
  const stub = await openRayStub();
  const folders = { AUTOCODE_RAY_WEIGHTS: "/weights", AUTOCODE_RAY_PLUGINS: "/opt/serving" };
  await using opened = await open({ AUTOCODE_RAY_URL: stub.url, ...folders });
  assert.equal(opened.launcher.name, "ray");
  const program = opened.program(ENGINE);
  assert.ok(program.kind === "application");
  const { args, runtime_env: env } = program.application as {
    args: { llm_configs: { model_loading_config: unknown }[] };
    runtime_env: { env_vars: Record<string, string> };
  };
  assert.deepEqual(
    args.llm_configs.map((each) => each.model_loading_config),
    [{ model_id: CODER_CARD.name, model_source: "/weights/coder/1" }],
  );
  assert.equal(env.env_vars["PYTHONPATH"], "/opt/serving");

  await opened.launcher.start({ ...ENGINE, model: CODER_CARD.name, program });
  const there = await opened.describe();
  assert.equal(there.status, "ok");
  assert.match(there.detail, /^Ray 2.60.0 at http.*autocode-p.normal DEPLOYING; AUTOCODE_RAY_URL/);
  await stub[Symbol.asyncDispose]();
  const away = await opened.describe();
  assert.equal(away.status, "warn");
  assert.match(away.detail, /does not answer \([A-Z_]+\): start Ray/);
  assert.match(away.next_step ?? "", /no engine can be brought up/);
});
