/**
 * Goal: the wiring of what serves models: its GPUs are those of the configuration, its engines are
 * started by the real command and looked after, and end with the last orchestrator of the machine.
 *
 * Method: AUTOCODE_VLLM_PYTHON is a program that starts a fake engine from vLLM's own arguments.
 */
import assert from "node:assert/strict";
import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { sql } from "drizzle-orm";
import { loadCatalog } from "../../models/catalog.ts";
import { buildPlanner, buildServing } from "../../orchestrator/compose-serving.ts";
import { readConfig } from "../../orchestrator/config.ts";
import { rows } from "../../orchestrator/db/rows.ts";
import { createRegister } from "../../orchestrator/duties/register.ts";
import { createLedger } from "../../orchestrator/ledger/postgres.ts";
import { createLayout } from "../../orchestrator/projects/layout.ts";
import { systemClock } from "../../orchestrator/runtime/clock.ts";
import { createIds } from "../../orchestrator/runtime/ids.ts";
import { createLog } from "../../orchestrator/runtime/log.ts";
import { systemRandom } from "../../orchestrator/runtime/random.ts";
import { AGENTS } from "../../worker-agent/agents/registry.ts";
import { openTestDatabase } from "../support/database.ts";
import { eventually } from "../support/eventually.ts";
import { states, storedWeights } from "../support/served-models.ts";

const ROOT = join(import.meta.dirname, "../..");
const FAKE = join(ROOT, "test/support/fake-engine.ts");
const catalog = await loadCatalog(join(ROOT, "models"));
const log = createLog("silent");
const ids = createIds(systemClock, systemRandom);
const agents = AGENTS.map(({ facts }) => facts);

function plannerOf(env: Record<string, string>) {
  const { serving } = readConfig({ AUTOCODE_HOME: "data", ...env }, "/nowhere");
  return buildPlanner(ROOT, catalog, agents, serving);
}

test("the configured GPUs are the machine's own; an unknown one is named with the nearest", async () => {
  const { own } = await (await plannerOf({ AUTOCODE_GPUS: "2x rtx-4090" })).hardware();
  assert.deepEqual(own, { gpu: "rtx-4090", gpu_count: 2 });
  await assert.rejects(plannerOf({ AUTOCODE_GPUS: "2x rtx-4091" }), {
    name: "Problem",
    code: "invalid_request",
    message: /^AUTOCODE_GPUS: unknown GPU "rtx-4091"; the nearest is "rtx-4090"; known: .*h100/,
  });
});

test("engines run the configured Python, and end with the machine's last orchestrator", async () => {
  const folder = await mkdtemp(join(tmpdir(), "autocode-compose-"));
  await using database = await openTestDatabase();
  const python = await writePython(folder);
  const env = { AUTOCODE_HOME: folder, AUTOCODE_VLLM_PYTHON: python, AUTOCODE_GPUS: "2x h100" };
  const config = readConfig(env, folder);
  await using joining = new AsyncDisposableStack();
  const joined = async (host: string) => {
    const options = { id: ids.next("process"), host, version: "1", heartbeatMs: 60_000 };
    const register = joining.use(createRegister(database, log, { ...options, silentMs: 600_000 }));
    await register.enter("http://127.0.0.1:1");
    return register;
  };
  await joined("another-machine");
  const weights = {
    ...storedWeights(),
    ...{
      list: async () => [],
      verify: async () => [],
      remove: async () => 0,
      deleteRemoved: async () => {},
      freeBytes: async () => 0,
    },
  };
  const open = async () =>
    buildServing(
      {
        ...{ db: database, layout: createLayout(folder), catalog },
        isolation: async () => ({ kind: "none" }),
        tellGateway: async () => {},
        // Nobody waits here, so nobody pays.
        projects: { findById: nobodyPays, accounts: nobodyPays },
        days: { dayAccount: nobodyPays, tokenDayAccount: nobodyPays },
        ledgerIn: (tx) => createLedger(tx, systemClock),
        planner: await plannerOf(env),
        weights,
        register: await joined(hostname()),
        log,
      },
      config,
    );
  const [first, second] = [await open(), await open()];
  assert.equal(await first.metrics(), "");
  const plan = { pair: "14b", gpu: "h100", gpu_count: 2 };
  assert.equal((await first.models.up({ plan, is_dry_run: true })).warnings, undefined);
  const [warning] = (await first.models.up({ plan })).warnings ?? [];
  assert.match(warning ?? "", /^trials here are not isolated, so agents reach these engines past/);
  const untilReady = ({ models, task }: typeof first) =>
    eventually(
      async () => {
        await task.activate();
        return (await models.list())[0];
      },
      (served) => states(served) === "ready ready",
      20_000,
    );
  const urls = (await untilReady(first))?.engines.map(({ base_url: url }) => url) ?? [];
  assert.match(
    await first.metrics(),
    /^autocode_engine_up\{provider="served\/coder-14b\/normal",model="[\w.-]+"\} 1$/m,
  );
  const sampled = await rows<{ provider: string; gpus: number }>(
    database.sql,
    sql`select distinct provider, gpus from engine_sample join usage_counter using (provider, model)
      order by provider`,
  );
  assert.deepEqual(sampled, [
    { provider: "served/coder-14b/normal", gpus: 1 },
    { provider: "served/coder-14b/thinking", gpus: 1 },
  ]);
  await first[Symbol.asyncDispose]();
  await first.end();
  assert.deepEqual(await Promise.all(urls.map(isHealthy)), [true, true], "another one is here");

  const served = await untilReady(second);
  assert.deepEqual(
    served?.engines.map(({ base_url: url, restarts }) => [url, restarts]),
    urls.map((url) => [url, 0]),
  );
  const last = await open();
  await Promise.all([last, second].map((serving) => serving[Symbol.asyncDispose]()));
  assert.deepEqual(await Promise.all(urls.map(isHealthy)), [true, true], "until the gateway is");
  // Each was there for the other when both began to end.
  await Promise.all([last.end(), second.end()]);
  assert.deepEqual(await Promise.all(urls.map(isHealthy)), [false, false]);
  await rm(folder, { recursive: true });
});

async function nobodyPays(): Promise<never> {
  assert.fail("there is no trial");
}

/** Takes what it needs from vLLM's own arguments. */
async function writePython(folder: string): Promise<string> {
  const path = join(folder, "python");
  const text = `#!/bin/sh
[ "$1 $2" = "-m vllm.entrypoints.openai.api_server" ] || exit 2
while [ $# -gt 0 ]; do
  case "$1" in
    --served-model-name) model=$2 ;;
    --host) host=$2 ;;
    --port) port=$2 ;;
  esac
  shift
done
exec "${process.execPath}" "${FAKE}" --model "$model" --host "$host" --port "$port"
`;
  await writeFile(path, text);
  await chmod(path, 0o755);
  return path;
}

async function isHealthy(url: string): Promise<boolean> {
  try {
    return (await fetch(`${url.replace(/\/v1$/, "")}/health`)).ok;
  } catch {
    return false;
  }
}
