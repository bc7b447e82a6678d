/** Goal: what the environment says of models on own GPUs is read whole, and no key goes to them. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { readConfig } from "../../orchestrator/config.ts";
import { parseGpus } from "../../orchestrator/config-serving.ts";

const HOME = { AUTOCODE_HOME: "data" };
const serving = (env: Record<string, string>) =>
  readConfig({ ...HOME, ...env }, "/nowhere").serving;

test("nothing said: GPUs are looked for, engines listen on loopback, the hub is its own", () => {
  assert.deepEqual(serving({}), {
    gpus: null,
    hardwareFile: null,
    host: "127.0.0.1",
    python: "python3",
    weightsUrl: null,
    weightsToken: null,
    isOffline: false,
    env: {},
    ray: null,
    why: "AUTOCODE_RAY_URL is not set",
  });
});

test("GPUs are a count and a kind", () => {
  assert.deepEqual(serving({ AUTOCODE_GPUS: "2x rtx-4090" }).gpus, { name: "rtx-4090", count: 2 });
  const cases: readonly [string, ReturnType<typeof parseGpus>][] = [
    ["h100", { name: "h100", count: 1 }],
    [" 8 x H100 ", { name: "h100", count: 8 }],
    ["4xa100-80", { name: "a100-80", count: 4 }],
    ["64x h200", { name: "h200", count: 64 }],
    ["65x h200", null],
    ["0x h100", null],
    ["-1x h100", null],
    ["h100, l40s", null],
    ["", null],
  ];
  for (const [text, gpus] of cases) assert.deepEqual(parseGpus(text), gpus, text);
});

test("what is wrong is told by its name", () => {
  assert.throws(
    () => serving({ AUTOCODE_GPUS: "two 4090s", AUTOCODE_OFFLINE: "yes" }),
    (error) => {
      assert.ok(error instanceof Error);
      assert.match(error.message, /AUTOCODE_GPUS: "two 4090s" must be GPUs of one kind, such as/);
      assert.match(error.message, /AUTOCODE_OFFLINE: "yes" must be on, off/);
      return true;
    },
  );
  assert.throws(() => serving({ AUTOCODE_WEIGHTS_URL: "hub.example" }), /AUTOCODE_WEIGHTS_URL/);
});

test("an engine gets its driver's and its tools' settings, and nobody's keys", () => {
  const own = { CUDA_HOME: "/cuda", VLLM_LOGGING_LEVEL: "INFO", LD_LIBRARY_PATH: "/cuda/lib64" };
  const secret = {
    ...{
      VLLM_API_KEY: "k1",
      OPENAI_API_KEY: "k2",
      HF_TOKEN: "k3",
      DATABASE_URL: "postgres://a@b/c",
    },
    AUTOCODE_SECRET_X: "k4",
  };
  assert.deepEqual(serving({ ...own, ...secret }).env, own);
});

test("Ray's address chooses Ray, and AUTOCODE_SERVING chooses for itself", () => {
  const url = { AUTOCODE_RAY_URL: "http://ray:8265/" };
  const { ray, why } = serving({
    ...url,
    ...{ RAY_AUTH_TOKEN: "t", AUTOCODE_RAY_INGRESS_URL: "http://ray:9000/" },
    ...{ AUTOCODE_RAY_WEIGHTS: "/weights/", AUTOCODE_RAY_PLUGINS: "/opt/serving" },
  });
  assert.deepEqual(ray, {
    url: "http://ray:8265",
    token: "t",
    ingressUrl: "http://ray:9000",
    weightsDir: "/weights",
    pluginsDir: "/opt/serving",
  });
  assert.equal(why, "AUTOCODE_RAY_URL is set");
  assert.equal(serving({ ...url, AUTOCODE_SERVING: "processes" }).ray, null);
  assert.throws(
    () => serving({ AUTOCODE_SERVING: "ray", AUTOCODE_RAY_WEIGHTS: "weights" }),
    /AUTOCODE_RAY_URL: AUTOCODE_SERVING is ray.*8265; AUTOCODE_RAY_WEIGHTS: "weights" must be/,
  );
  assert.throws(() => serving({ AUTOCODE_SERVING: "k8s" }), /AUTOCODE_SERVING/);
});
