/** A launcher of engines on a Ray (the stub, or Ray itself), for the port's suite. */
import { join } from "node:path";
import { systemClock as clock } from "../../orchestrator/runtime/clock.ts";
import { createLog } from "../../orchestrator/runtime/log.ts";
import { openRay } from "../../orchestrator/serving/ray.ts";
import { createRayApi } from "../../orchestrator/serving/ray-api.ts";
import { createRayEngineClient } from "../../orchestrator/serving/ray-client.ts";
import type { EngineSpec } from "../../orchestrator/serving/serving.ts";
import { CODER_CARD, modelPlan, pairPlan, REASONER_CARD } from "./model-plan.ts";

export interface RayLauncherOptions {
  url: string;
  ingressUrl?: string;
  token?: string;
  pollMs?: number;
}

const GONE_MAX_MS = 120_000;
/** On CPUs, so that Ray places it anywhere. */
export const PLAN = pairPlan({
  pair: "p",
  models: [
    modelPlan(CODER_CARD, { gpus: [] }),
    modelPlan(REASONER_CARD, { gpus: [], side: "thinking" }),
  ],
});

export type RayLauncherWorld = ReturnType<typeof openRayLauncher>;

export function openRayLauncher({ url, ingressUrl, token, pollMs = 10 }: RayLauncherOptions) {
  const api = createRayApi({ url, token: token ?? null, timeoutMs: 30_000 });
  const log = createLog("silent");
  const launcher = openRay(
    { api, clock, log },
    { ingressUrl: ingressUrl ?? null, goneMaxMs: GONE_MAX_MS, pollMs },
  );
  const client = createRayEngineClient(api);
  const started = new Set<string>();
  return {
    ...{ api, launcher, client, start, specOf },
    answers: ({ baseUrl, model }: EngineSpec) => client.answers(baseUrl, model),
    [Symbol.asyncDispose]: async () => {
      for (const id of started) await launcher.stop(id);
      await launcher[Symbol.asyncDispose]();
    },
  };

  async function start(id: string, options = { dies: false }): Promise<EngineSpec> {
    const spec = await specOf(id, options);
    await launcher.start(spec);
    started.add(id);
    return spec;
  }

  /** Of test/ray/fake_engine.py, as Ray runs it. */
  async function specOf(id: string, { dies }: { dies: boolean }): Promise<EngineSpec> {
    const addresses = await launcher.addresses(PLAN);
    const baseUrl = addresses.find((address) => address.includes(`/${id}/`));
    if (baseUrl === undefined) throw new Error(`${id} has no address`);
    const application = {
      import_path: "fake_engine:build",
      runtime_env: { env_vars: { PYTHONPATH: join(import.meta.dirname, "../ray") } },
      args: { model: "m", dies },
    };
    return { id, model: "m", program: { kind: "application", application }, baseUrl };
  }
}
