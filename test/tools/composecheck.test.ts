/**
 * Goal: `docker compose config` takes our file in each of its forms, and what it describes holds
 * what we promise: engines that the gateway alone reaches, nothing published off loopback, secrets
 * in files alone, pinned images, and health that what waits for it can wait for.
 *
 * Method: the library behind that command reads it (tools/composecheck). No Docker engine is here:
 * no image is fetched and nothing is started.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { chown, mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { parse } from "yaml";
import { loadCards } from "../../models/cards.ts";
import { loadCatalog } from "../../models/catalog.ts";
import { loadHardware } from "../../models/hardware.ts";
import { planPair } from "../../models/plan.ts";
import { renderPair } from "../../models/serving/render.ts";
import { buildComposeCheck, type ComposeProject } from "../support/composecheck.ts";
import { pairPlan } from "../support/model-plan.ts";
import { RENDER_FACTS } from "../support/model-render.ts";

const ROOT = join(import.meta.dirname, "../..");
const FILE = join(ROOT, "docker-compose.gpu.yml");
const ELASTIC = join(ROOT, "deploy/compose/elastic.yml");
const ALL = ["-profile", "*"];
const PROFILES = ["bi", "elastic", "metrics", "nomad", "ray", "vault", "vllm", "worker"];
/** On networks without a way out but their own. */
const ENGINES = ["ray", "vllm-normal", "vllm-thinking"];
const NOBODY = 65_534;

const compose = await buildComposeCheck();
const skip = compose === null ? "there is no go on the PATH" : false;
after(() => compose?.remove());

async function read(files: readonly string[] = [FILE], ...args: string[]) {
  const project = await compose?.read(files, ...args);
  assert.ok(project !== undefined);
  return project;
}

test("By itself it starts what every installation needs", { skip }, async () => {
  const { services } = await read();
  assert.deepEqual(Object.keys(services).sort(), ["egress", "gateway", "orchestrator", "postgres"]);
});

for (const profile of PROFILES) {
  test(`The profile ${profile} is whole by itself`, { skip }, async () => {
    const alone = Object.keys((await read()).services);
    const { services } = await read([FILE], "-profile", profile);
    assert.ok(Object.keys(services).length > alone.length);
  });
}

test("It holds what it promises", { skip }, async (t) => {
  const project = await read([FILE], ...ALL);
  const services = Object.entries(project.services);
  const profiles = services.flatMap(([, { profiles = [] }]) => profiles);
  assert.deepEqual([...new Set(profiles)].sort(), PROFILES);

  await t.test("the engines are on a network of their own, which the gateway shares", () => {
    assert.equal(project.networks["engines"]?.internal, true);
    const members = services.filter(([, { networks = {} }]) => "engines" in networks);
    assert.deepEqual(members.map(([name]) => name).sort(), ["gateway", ...ENGINES].sort());
    for (const name of ENGINES) {
      const { networks = {}, ports = [] } = project.services[name] ?? {};
      assert.deepEqual([Object.keys(networks), ports], [["engines"], []], name);
    }
    // It is where the gateway is, and tells metrics alone (tools/metrics-relay).
    const guests = services.filter(([, { network_mode: mode }]) => mode === "service:gateway");
    assert.deepEqual(
      guests.map(([name]) => name),
      ["metrics-relay"],
    );
  });

  await t.test("trials' workers reach our programs and nothing else", () => {
    assert.equal(project.networks["control"]?.internal, true);
    assert.deepEqual(Object.keys(project.services["worker"]?.networks ?? {}), ["control"]);
    const near = services.filter(([, { networks = {} }]) => "control" in networks);
    assert.deepEqual(near.map(([name]) => name).sort(), [
      ...["egress", "gateway", "orchestrator", "worker"],
    ]);
  });

  await t.test("nomad, which runs anything for anybody, is near the orchestrator alone", () => {
    assert.deepEqual(Object.keys(project.services["nomad"]?.networks ?? {}), ["jobs"]);
    const near = services.filter(([, { networks = {} }]) => "jobs" in networks);
    assert.deepEqual(near.map(([name]) => name).sort(), ["nomad", "orchestrator"]);
  });

  await t.test("the relay, which adds a token, listens on the network of metrics alone", () => {
    const [, , where = ""] = project.services["metrics-relay"]?.command ?? [];
    const name = where.replace(/:\d+$/, "");
    const named = services.flatMap(([service, { networks = {} }]) =>
      Object.entries(networks)
        .filter(([, network]) => service === name || network?.aliases?.includes(name))
        .map(([network]) => [service, network]),
    );
    assert.deepEqual(named, [["gateway", "metrics"]]);
    assert.ok(!("metrics" in (project.services["worker"]?.networks ?? {})));
  });

  await t.test(
    "the address of a model server is known to all that read the providers",
    async () => {
      const file = join(ROOT, "orchestrator/config.ts");
      const text = await readFile(file, "utf8");
      for (const name of ["VLLM_BASE_URL", "VLLM_NORMAL_BASE_URL", "VLLM_THINKING_BASE_URL"]) {
        assert.ok(text.includes(`"${name}"`), name);
        const told = services.filter(([, { environment = {} }]) => name in environment);
        assert.deepEqual(told.map(([each]) => each).sort(), ["egress", "gateway", "orchestrator"]);
      }
    },
  );

  await t.test("what is published is published on loopback, and reachable there", () => {
    for (const [name, { ports = [], networks = {} }] of services) {
      for (const { host_ip: host } of ports) assert.equal(host, "127.0.0.1", name);
      const isOut = Object.keys(networks).some((each) => !project.networks[each]?.internal);
      assert.ok(
        ports.length === 0 || isOut,
        `${name}: no port of an internal network is published`,
      );
    }
  });

  await t.test("whatever is waited for can become what is waited for", () => {
    for (const [name, { depends_on: needs = {} }] of services) {
      for (const [needed, { condition }] of Object.entries(needs)) {
        const { healthcheck } = project.services[needed] ?? {};
        const isHealthy = condition !== "service_healthy" || healthcheck !== undefined;
        assert.ok(isHealthy, `${name} waits for the health of ${needed}, which has none`);
      }
    }
    const unhealthy = services.filter(([, { healthcheck }]) => healthcheck === undefined);
    // One ends when it has done its work, and two answer to whoever asks them.
    assert.deepEqual(unhealthy.map(([name]) => name).sort(), [
      ...["elastic-setup", "metrics-relay", "worker"],
    ]);
  });

  await t.test("images are pinned by version", () => {
    for (const [name, { image }] of services) {
      assert.match(image, /^[a-z0-9./-]+:v?\d+\.\d+[\w.-]*$/, name);
    }
  });

  await t.test("secrets are files that make-secrets.sh makes, and in no environment", async () => {
    const folder = await mkdtemp(join(tmpdir(), "autocode-secrets-"));
    t.after(() => rm(folder, { recursive: true, force: true }));
    const script = join(ROOT, "deploy/compose/make-secrets.sh");
    const make = () => spawnSync("sh", [script, folder], { encoding: "utf8" });
    // A plain user gives nothing away, and is told so.
    const expected = process.getuid?.() === 0 ? 0 : 1;
    assert.equal(make().status, expected);
    const first = await readFile(join(folder, "DATABASE_URL"), "utf8");
    assert.equal(make().status, expected);
    assert.equal(await readFile(join(folder, "DATABASE_URL"), "utf8"), first);
    assert.match(first, /^postgres:\/\/autocode:[0-9a-f]{48}@postgres:5432\/autocode$/);
    const { secrets } = await read([FILE, ELASTIC], ...ALL);
    for (const [name, { file }] of Object.entries(secrets)) {
      assert.equal(file, join(ROOT, "secrets", name));
      assert.equal((await stat(join(folder, name))).mode & 0o077, 0, name);
    }
    for (const [name, { environment = {} }] of services) {
      for (const [variable, value] of Object.entries(environment)) {
        if (!/PASSWORD|PASSPHRASE|SECRET|TOKEN/.test(variable)) continue;
        assert.match(value ?? "", /^\/run\/secrets\//, `${name}: ${variable}`);
      }
    }
  });

  await t.test("what it mounts of the checkout is there", async () => {
    for (const [, { volumes = [] }] of services) {
      for (const { type, source } of volumes) {
        if (type !== "bind" || source.startsWith(join(ROOT, ".autocode"))) continue;
        await stat(source);
      }
    }
  });
});

test("A plain user is told which secrets their containers could not read", async (t) => {
  const folder = await mkdtemp(join(tmpdir(), "autocode-secrets-"));
  t.after(() => rm(folder, { recursive: true }));
  const isRoot = process.getuid?.() === 0;
  if (isRoot) await chown(folder, NOBODY, NOBODY);
  const plain = isRoot ? { uid: NOBODY, gid: NOBODY } : {};
  const input = await readFile(join(ROOT, "deploy/compose/make-secrets.sh"), "utf8");
  const made = spawnSync("sh", ["-s", folder], { encoding: "utf8", cwd: folder, input, ...plain });
  if (made.error !== undefined) {
    t.skip(`no program can be started here as another user: ${made.error.message}`);
    return;
  }
  assert.equal(made.status, 1);
  assert.match(made.stderr, /grafana_password: the container's user 472 cannot read it/);
  assert.match(made.stderr, /sudo chown 472 /);
  // Every one is made all the same; given away, they are what was asked for.
  assert.ok((await stat(join(folder, "AUTOCODE_JOIN_TOKEN"))).isFile());
  if (!isRoot) return;
  const again = spawnSync("sh", ["-s", folder], { encoding: "utf8", cwd: folder, input });
  assert.deepEqual([again.status, again.stderr], [0, ""]);
  const owners = ["grafana_password", "elastic_password"].map((name) => stat(join(folder, name)));
  assert.deepEqual(
    (await Promise.all(owners)).map(({ uid }) => uid),
    [472, 1000],
  );
});

test("A program of our image finds its secrets in its environment", async (t) => {
  const folder = await mkdtemp(join(tmpdir(), "autocode-secrets-"));
  t.after(() => rm(folder, { recursive: true }));
  const value = "postgres://a:$(b)'\"@c/d";
  await writeFile(join(folder, "DATABASE_URL"), `${value}\n`);
  await writeFile(join(folder, "postgres_password"), "not a variable's name");
  const script = join(ROOT, "deploy/compose/with-secrets.sh");
  const env = { PATH: process.env["PATH"], SECRETS_DIR: folder };
  const args = [script, process.execPath, "-p", "JSON.stringify(process.env)"];
  const { stdout, stderr, status } = spawnSync("sh", args, { encoding: "utf8", env });
  assert.equal(status, 0, stderr);
  const { PWD: _, OLDPWD: __, SHLVL: ___, ...seen } = JSON.parse(stdout);
  assert.deepEqual(seen, { ...env, DATABASE_URL: value });
});

test("Its engines are those that are rendered for coder-7b on two GPUs", { skip }, async () => {
  const plan = await planOf("coder-7b", "rtx-4090", 2);
  const dirs = plan.models.map(({ model }) => `/store/${model}/bf16/revision`);
  const weightsDirs = new Map(plan.models.map(({ model }, at) => [model, dirs[at] ?? ""]));
  const facts = { ...RENDER_FACTS, cards: await cards, weightsRoot: "/store", weightsDirs };
  const rendered = renderPair(plan, "compose", facts);
  const base = await read([FILE], ...ALL);
  assert.deepEqual(enginesOf(await withOverride(rendered.files[0]?.text)), enginesOf(base));
});

test("Another pair's engines take the place of its own", { skip }, async () => {
  const rendered = renderPair(pairPlan(), "compose", RENDER_FACTS);
  const [normal, thinking] = enginesOf(await withOverride(rendered.files[0]?.text));
  assert.ok(normal?.command?.includes("/weights/qwen2.5-coder-14b-instruct/bf16/b693088"));
  assert.ok(!normal?.command?.join(" ").includes("7b"));
  assert.deepEqual(normal?.devices, [
    { driver: "nvidia", device_ids: ["0"], capabilities: ["gpu"] },
  ]);
  assert.equal(thinking?.devices?.length, 1);
});

test("What Ray is given beside it names what its container has", { skip }, async () => {
  const { files } = renderPair(pairPlan(), "compose", RENDER_FACTS);
  const text = files.find(({ name }) => name.endsWith(".ray.yaml"))?.text ?? "";
  const { services } = await read([FILE], "-profile", "ray");
  const { volumes = [], networks } = services["ray"] ?? {};
  assert.ok(volumes.some(({ target }) => target === "/etc/autocode/ray.yaml"));
  assert.deepEqual(Object.keys(networks ?? {}), ["engines"]);
  const paths = [...text.matchAll(/(?<=: )\/[^\s]+/g)].map(([path]) => path);
  for (const path of paths.filter((each) => each !== "/")) {
    assert.ok(
      volumes.some(({ target }) => path === target || path.startsWith(`${target}/`)),
      path,
    );
  }
  const { http_options: http, applications } = parse(text) as RayFile;
  // Another container reaches it: the gateway, of all that there are.
  assert.deepEqual([http.host, http.port], ["0.0.0.0", 8000]);
  const [first, second] = applications[0]?.args.llm_configs ?? [];
  assert.deepEqual(
    [first, second].map((each) => each?.model_loading_config.model_source),
    [
      "/weights/qwen2.5-coder-14b-instruct/bf16/b693088",
      "deepseek-ai/DeepSeek-R1-Distill-Qwen-14B",
    ],
  );
  const plugins = "/opt/autocode/models/serving";
  assert.equal(applications[0]?.runtime_env.env_vars["PYTHONPATH"], plugins);
  assert.ok(paths.includes(`${plugins}/qwen25_coder_tool_parser.py`));
});

interface RayFile {
  http_options: { host: string; port: number };
  applications: {
    runtime_env: { env_vars: Record<string, string> };
    args: { llm_configs: { model_loading_config: { model_source: string } }[] };
  }[];
}

const cards = loadCards(join(ROOT, "models"));

async function planOf(name: string, gpu: string, count: number) {
  const folder = join(ROOT, "models");
  const [catalog, gpus] = await Promise.all([loadCatalog(folder), loadHardware(folder)]);
  const pair = catalog.pairs.get(name);
  assert.ok(pair !== undefined);
  const facts = { pair, cards: await cards, gpus, book: catalog.book };
  return planPair({ pair: name, gpu, gpu_count: count }, facts);
}

async function withOverride(text: string | undefined): Promise<ComposeProject> {
  const folder = await mkdtemp(join(tmpdir(), "autocode-override-"));
  const file = join(folder, "override.yaml");
  await writeFile(file, text ?? "");
  try {
    return await read([FILE, file], ...ALL);
  } finally {
    await rm(folder, { recursive: true });
  }
}

function enginesOf({ services }: ComposeProject) {
  return ["vllm-normal", "vllm-thinking"].map((name) => {
    const { command, deploy } = services[name] ?? {};
    return { command, devices: deploy?.resources?.reservations?.devices };
  });
}
