/**
 * Goal: what we give to Nomad is what Nomad understands: every job file, policy and registration
 * passes HashiCorp's own decoder and types, a mistake is told with its file and line, and the
 * job that is installed by hand is the one that the scheduler registers.
 *
 * Method: `tools/nomadcontract` reads each file, and copies of it with one thing changed.
 */
import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { after, test } from "node:test";
import { baseJob, META, variantOf } from "../../orchestrator/scheduler/nomad-job.ts";
import { buildNomadContract } from "../support/nomadcontract.ts";

const JOBS = join(import.meta.dirname, "../../nomad-jobs");
const NS = 1_000_000_000;
const contract = await buildNomadContract();
const skip = contract === null ? "there is no go on the PATH" : false;
const folder = mkdtempSync(join(tmpdir(), "autocode-jobs-"));
after(async () => {
  rmSync(folder, { recursive: true, force: true });
  await contract?.remove();
});

interface Task {
  Name: string;
  Driver: string;
  Config: Record<string, unknown>;
  Env: Record<string, string>;
  Resources: { CPU: number; MemoryMB: number; Devices: unknown[] | null };
  KillTimeout: number;
  Vault: { Role: string } | null;
  Templates: { EmbeddedTmpl: string }[] | null;
}
interface Job {
  ID: string;
  Type: string;
  Constraints: unknown[];
  TaskGroups: { Name: string; Update: { Canary: number } | null; Tasks: Task[] }[];
}
interface Read {
  variables: { name: string; type: string; is_required: boolean }[];
  job: Job;
}

/** Each job file, and the values of variables that reach every part of it. */
const CASES: Readonly<Record<string, readonly (readonly string[])[]>> = {
  "trial.nomad.hcl": [
    [],
    ["driver=raw_exec", "run_as=", "api_url=http://10.0.0.5:7700", "node=/usr/bin/node"],
    ["driver=exec", "host_volume=autocode", "gpus=2", "gpu_memory=16000", "vm_template=gpu-worker"],
    ["driver=docker", "image=example.org/worker:1", "host_volume=autocode", 'env={"TZ":"UTC"}'],
    ["artifact=https://example.org/autocode.tgz", `artifact_checksum=sha256:${"0".repeat(64)}`],
  ],
  "trials.nomad.hcl": [
    ["project=example", "experiment=nightly"],
    ["project=example", "experiment=nightly", 'agents=["aider"]', 'models=["a", "b"]'],
    ["project=p", "experiment=e", 'tasks=["t"]', "budget=0.50", "concurrency=2", "driver=docker"],
    ["project=p", "experiment=e", "secrets_from=vault", "api_url=http://10.0.0.5:7700"],
    ["project=p", "experiment=e", "secrets_from=none", "home=/var/lib/autocode", "run=2"],
  ],
  "orchestrator.nomad.hcl": [
    ["has_database=true"],
    ["driver=docker", "host_volume=home", "has_database=true", "count=2", "canary=0"],
    [
      ...["secrets_from=vault", "vault_addr=http://10.0.0.1:8200", 'env={"A":"b"}'],
      ...["scheduler=fleet", "has_database=true"],
    ],
    [
      ...["secrets_from=none", "api_port=0", "gateway_port=0"],
      ...["api_url=https://autocode.example.org", "node_name=n1"],
    ],
  ],
  "proxy.nomad.hcl": [
    [],
    ["driver=docker", "secrets_from=vault", "count=2", "grace_s=60", "vault_addr=https://v:8200"],
  ],
  "worker-host.nomad.hcl": [
    ["api_url=http://10.0.0.5:7700,http://10.0.0.6:7700"],
    ["api_url=http://10.0.0.5:7700", "secrets_from=none", "slots=8", "drain_s=600"],
  ],
  "worker-vm.nomad.hcl": [
    ["folder=/srv/autocode-vms/worker-1"],
    ["folder=/srv/vms/a", "node_name=n1", "has_kernel=true", "bridge=br0", "mac=52:54:00:00:00:01"],
  ],
  "models.nomad.hcl": [
    ["model=Qwen/Qwen2.5-Coder-7B-Instruct"],
    ["model=/srv/weights", "driver=raw_exec", "gpus=0", "max_model_len=4096"],
    ["model=m", "gpus=4", "weights_volume=weights", 'extra_args=["--enable-prefix-caching"]'],
    ["model=m", "gpu_memory_mib=46068", 'plugins={"p.py":"x"}', 'env={"HF_HUB_OFFLINE":"1"}'],
  ],
};

/** Those that are not named after their files. */
const JOB_IDS: Readonly<Record<string, string>> = {
  "models.nomad.hcl": "autocode-model",
  "worker-host.nomad.hcl": "autocode-worker",
};

/** Where it is another one than raw_exec unless told. */
const DRIVERS: Readonly<Record<string, string>> = {
  "models.nomad.hcl": "docker",
  "worker-vm.nomad.hcl": "qemu",
};

function flags(values: readonly string[]): string[] {
  return values.flatMap((value) => ["-var", value]);
}

async function read(file: string, ...values: string[]): Promise<Read> {
  const [line] = (await contract?.check<Read>("jobspec", ...flags(values), join(JOBS, file))) ?? [];
  assert.ok(line !== undefined);
  return line;
}

function taskOf({ job }: Read): Task {
  const task = job.TaskGroups[0]?.Tasks[0];
  assert.ok(task !== undefined);
  return task;
}

test("there is a case for every job file", () => {
  const files = readdirSync(JOBS).filter((name) => name.endsWith(".hcl"));
  assert.deepEqual(files.sort(), Object.keys(CASES).sort());
});

for (const [file, cases] of Object.entries(CASES)) {
  test(`${file} is a job in each of its forms`, { skip }, async () => {
    for (const values of cases) {
      const { job, variables } = await read(file, ...values);
      assert.equal(job.ID, JOB_IDS[file] ?? `autocode-${basename(file, ".nomad.hcl")}`);
      const driver = values.find((value) => value.startsWith("driver="))?.slice(7) ?? DRIVERS[file];
      const task = taskOf({ job, variables });
      assert.equal(task.Driver, driver ?? "raw_exec");
      assert.equal("image" in task.Config, task.Driver === "docker");
      // A number among a driver's texts is refused by the node, when it is too late.
      const args = task.Config["args"] as unknown[];
      assert.deepEqual(
        args.filter((arg) => typeof arg !== "string"),
        [],
      );
    }
  });
}

test("the client's plugin allows every argument that the VM's job has, and no other", {
  skip,
}, async () => {
  const client = readFileSync(join(JOBS, "agent/client.hcl"), "utf8");
  const [, list = ""] = /args_allowlist = \[([^\]]*)\]/.exec(client) ?? [];
  const allowed = [...list.matchAll(/"([^"]+)"/g)].map(([, flag]) => flag);
  const used = new Set<string>();
  for (const values of CASES["worker-vm.nomad.hcl"] ?? []) {
    const args = taskOf(await read("worker-vm.nomad.hcl", ...values)).Config["args"] as string[];
    for (const flag of args.filter((arg) => arg.startsWith("-"))) used.add(flag);
    const folder = values[0]?.replace("folder=", "");
    assert.equal(args[args.indexOf("-qmp") + 1], `unix:${folder}/qmp.sock,server=on,wait=off`);
  }
  assert.deepEqual(allowed, [...used].sort());
});

test("a value that is not valid is refused in words, and so is one that is missing", {
  skip,
}, async () => {
  const refused: readonly (readonly [string, string, readonly string[]])[] = [
    ["trial.nomad.hcl", "The driver must be raw_exec, exec or docker.", ["driver=qemu"]],
    ["trial.nomad.hcl", "The memory must be from 256", ["memory=1"]],
    ["trial.nomad.hcl", "a number is required", ["cpu=many"]],
    ["trial.nomad.hcl", "The api_url must be", ["api_url=10.0.0.5:7700"]],
    ["trial.nomad.hcl", "The run_as must be", ["run_as=0:0"]],
    ["trial.nomad.hcl", "The checkout must be", ["checkout=autocode"]],
    ["trial.nomad.hcl", "The kill_timeout must be", ["kill_timeout=soon"]],
    ["trial.nomad.hcl", "Undefined -var variable; cpus", ["cpus=2"]],
    ["trials.nomad.hcl", '"project" must be set', ["experiment=e"]],
    ["trials.nomad.hcl", "The experiment must be", ["project=p", "experiment=--json"]],
    ["trials.nomad.hcl", "The budget must be", ["project=p", "experiment=e", "budget=a lot"]],
    ["trials.nomad.hcl", "The agents must be", ["project=p", "experiment=e", 'agents=[""]']],
    ["orchestrator.nomad.hcl", "The count must be", ["count=1.5"]],
    ["orchestrator.nomad.hcl", "name the node, -var node_name=…, or", []],
    ["orchestrator.nomad.hcl", "The node_name must be", ["node_name=a b"]],
    ["orchestrator.nomad.hcl", "count: more than one needs", ["node_name=a", "count=2"]],
    ["orchestrator.nomad.hcl", "The env must have names", ['env={"no-name":"x"}']],
    ["models.nomad.hcl", '"model" must be set', []],
    ["worker-vm.nomad.hcl", "The folder must be an absolute path", ["folder=vms/a"]],
    ["worker-vm.nomad.hcl", "a socket's path is short", [`folder=/${"a".repeat(98)}`]],
  ];
  for (const [file, words, values] of refused) {
    const said = (await contract?.refusal("jobspec", ...flags(values), join(JOBS, file))) ?? "";
    assert.ok(said.includes(words), `${values}: ${said}`);
    if (!words.startsWith("Undefined")) assert.match(said, new RegExp(`${file}:\\d+: `));
  }
});

test("a mistake in a job file is told with its file and line", { skip }, async () => {
  const text = readFileSync(join(JOBS, "trial.nomad.hcl"), "utf8");
  const mistakes: readonly (readonly [string, string, string])[] = [
    ["kill_signal  =", "kill_singal  =", 'An argument named "kill_singal" is not expected here'],
    ["    restart {", "    restat {", 'Blocks of type "restat" are not expected here'],
    ["    count = 1", '    count = "many"', "a number is required"],
    [
      "driver       = var.driver",
      "driver       = var.drivr",
      'does not have an attribute named "drivr"',
    ],
    ["args    = [local.main]", "args    = [local.mian]", 'does not have an attribute named "mian"'],
    ["command = config.value", "comand  = config.value", 'The driver "raw_exec" has no "comand"'],
    ["kill_timeout = var.kill_timeout", 'kill_timeout = "soon"', "invalid duration"],
    ["  parameterized {", "  parametrized {", 'Blocks of type "parametrized" are not expected'],
    ["file = ", "fiel = ", 'An argument named "fiel" is not expected here'],
    ["default     = 1000\n", 'default     = "fast"\n', "a number is required"],
    ["  type        = string\n", "", "Invalid type specification"],
    ["disconnect {\n      replace = false", "disconnect {\n      replace = 7", "bool required"],
  ];
  for (const [good, bad, words] of mistakes) {
    assert.ok(text.includes(good), good);
    const path = join(folder, "mistaken.nomad.hcl");
    writeFileSync(path, text.replace(good, bad));
    const said = (await contract?.refusal("jobspec", path)) ?? "";
    assert.ok(said.includes(words), `${bad}: ${said}`);
    const line = text
      .slice(0, text.indexOf(good) + (good.startsWith("disconnect") ? 20 : 0))
      .split("\n").length;
    // Of what is missing, the block's line is told.
    const isNear = [line, line - 1].some((number) =>
      said.includes(`mistaken.nomad.hcl:${number}: `),
    );
    assert.ok(isNear, `${bad}, line ${line}: ${said}`);
  }
});

test("policies and agents' settings hold known words alone", { skip }, async () => {
  const kinds = [
    ["vault", "policies/vault"],
    ["nomad", "policies/nomad"],
    ["agent", "agent"],
  ] as const;
  for (const [kind, sub] of kinds) {
    const files = readdirSync(join(JOBS, sub)).filter((name) => name.endsWith(".hcl"));
    assert.ok(files.length > 1);
    const lines = await contract?.check(
      "policy",
      kind,
      ...files.map((name) => join(JOBS, sub, name)),
    );
    assert.equal(lines?.length, files.length);
  }
  const mistakes = [
    ["vault", 'path "a" {\n  capabilities = ["raed"]\n}\n', ":2: Unknown word"],
    ["vault", 'paht "a" {}\n', ":1: Unsupported block type"],
    ["nomad", 'namespace "default" {\n  capabilities = ["dispatch"]\n}\n', ":2: Unknown word"],
    ["nomad", 'node {\n  polcy = "read"\n}\n', ":2: Unsupported argument"],
    ["agent", 'data_dir = "/x"\nclient {\n  enabeld = true\n}\n', ":3: Unsupported argument"],
  ] as const;
  for (const [kind, text, words] of mistakes) {
    const path = join(folder, "mistaken.hcl");
    writeFileSync(path, text);
    const said = (await contract?.refusal("policy", kind, path)) ?? "";
    assert.ok(said.includes(`mistaken.hcl${words}`), said);
  }
});

test("an orchestrator whose database is its node's is started nowhere else", {
  skip,
}, async () => {
  const facts = async (...values: string[]) => {
    const found = await read("orchestrator.nomad.hcl", ...values);
    const [group] = found.job.TaskGroups as unknown as {
      Count: number;
      Update: { Canary: number; AutoPromote: boolean };
      ReschedulePolicy: { Attempts: number; Unlimited: boolean };
      Constraints: { LTarget: string; RTarget: string }[];
    }[];
    assert.ok(group !== undefined);
    const { Count: count, Update: update, ReschedulePolicy: again, Constraints: where } = group;
    const node = where.find(({ LTarget }) => LTarget.includes("node.unique.name"))?.RTarget;
    const url = taskOf(found).Env["DATABASE_URL"];
    assert.equal(again.Attempts, 0);
    return [count, update.Canary, update.AutoPromote, again.Unlimited, node, url];
  };
  // Without one among the secrets, it fails instead of beginning on an empty database.
  const url = "postgres://database-url-is-not-in-the-secrets.invalid/";
  const embedded = [1, 0, false, false, "n1", undefined];
  assert.deepEqual(await facts("node_name=n1"), embedded);
  assert.deepEqual(await facts("node_name=n1", "canary=2"), embedded);
  assert.deepEqual(await facts("has_database=true"), [1, 1, true, true, undefined, url]);
  const two = await facts("has_database=true", "count=2", "canary=0");
  assert.deepEqual(two, [2, 0, false, true, undefined, url]);
});

test("an experiment's job has its token from a secret, and never in itself", { skip }, async () => {
  const given = ["project=p", "experiment=e"];
  const secretsOf = async (...more: string[]) => {
    const { Env, Templates } = taskOf(await read("trials.nomad.hcl", ...given, ...more));
    return { env: Env, from: (Templates ?? []).map(({ EmbeddedTmpl }) => EmbeddedTmpl ?? "") };
  };
  const plain = await secretsOf();
  assert.deepEqual(plain.env, { NO_COLOR: "1" });
  assert.equal(plain.from.length, 1);
  assert.match(plain.from[0] ?? "", /nomadVar "nomad\/jobs\/autocode-trials"/);
  const named = await secretsOf("job_id=nightly");
  assert.match(named.from[0] ?? "", /nomadVar "nomad\/jobs\/nightly"/);
  const beside = await secretsOf("home=/var/lib/autocode");
  assert.deepEqual(beside.env, { NO_COLOR: "1", AUTOCODE_HOME: "/var/lib/autocode" });
  assert.deepEqual(beside.from, []);
  const vault = await secretsOf("secrets_from=vault", "api_url=http://10.0.0.5:7700");
  assert.deepEqual(vault.env, { NO_COLOR: "1", AUTOCODE_URL: "http://10.0.0.5:7700" });
  assert.match(vault.from[0] ?? "", /with secret "secret\/data\/autocode\/trials"/);
});

test("each role of Vault's login is that of a job, its task and its policy", { skip }, async () => {
  const roles = readdirSync(join(JOBS, "policies/vault/roles"));
  const policies = readdirSync(join(JOBS, "policies/vault"));
  const files = ["orchestrator.nomad.hcl", "proxy.nomad.hcl", "trials.nomad.hcl"];
  assert.deepEqual(
    roles.sort(),
    files.map((file) => `autocode-${basename(file, ".nomad.hcl")}.json`),
  );
  for (const file of files) {
    const needed: Readonly<Record<string, readonly string[]>> = {
      "trials.nomad.hcl": ["project=p", "experiment=e"],
      "orchestrator.nomad.hcl": ["has_database=true"],
    };
    const given = needed[file] ?? [];
    const found = await read(file, ...given, "secrets_from=vault");
    const task = taskOf(found);
    const role = JSON.parse(
      readFileSync(join(JOBS, "policies/vault/roles", `${found.job.ID}.json`), "utf8"),
    );
    assert.equal(task.Vault?.Role, found.job.ID);
    assert.deepEqual(role.bound_claims, {
      nomad_namespace: "default",
      nomad_job_id: found.job.ID,
      nomad_task: task.Name,
    });
    const [policy] = role.token_policies;
    assert.ok(policies.includes(`${policy}.hcl`));
    const [, path = ""] =
      /with secret "([^"]+)"/.exec(task.Templates?.[0]?.EmbeddedTmpl ?? "") ?? [];
    const allowed = readFileSync(join(JOBS, "policies/vault", `${policy}.hcl`), "utf8");
    const reads = allowed.includes(`"${path}"`) || allowed.includes('"secret/data/autocode/*"');
    assert.ok(path !== "" && reads, path);
  }
});

test("what the scheduler registers is the job that is installed by hand", { skip }, async () => {
  const built = baseJob({
    name: "autocode-trial",
    namespace: "default",
    command: ["/opt/autocode/node_modules/.bin/node", "/opt/autocode/worker-agent/main.ts"],
    agentsDir: "/var/lib/autocode/agents",
    env: {},
  });
  const path = join(folder, "register.json");
  writeFileSync(path, JSON.stringify({ Job: built }, null, 2));
  const [registered] = (await contract?.check<{ job: Job }>("strict", path)) ?? [];
  const { job: installed } = await read("trial.nomad.hcl");

  // The scheduler marks what is its own; the one by hand is for nodes of any kind.
  const marked = (registered?.job as { Meta?: unknown } | undefined)?.Meta;
  assert.deepEqual(registered?.job, { ...installed, Constraints: null, Meta: marked });
});

test("a variant for what a trial asks for is a job that Nomad knows every field of", {
  skip,
}, async () => {
  const { job: base } = await read("trial.nomad.hcl");
  const made = variantOf(base as unknown as Parameters<typeof variantOf>[0], {
    pool: "gpu",
    cpus: 8,
    memory_bytes: 32 * 2 ** 30,
    disk_bytes: 64 * 2 ** 30,
    gpus: 2,
    gpu_memory_bytes: 24 * 2 ** 30,
    vm_template: "gpu-worker",
  });
  const path = join(folder, "variant.json");
  writeFileSync(path, JSON.stringify({ Job: made }));
  const [line] = (await contract?.check<{ job: Job }>("strict", path)) ?? [];
  const task = line?.job.TaskGroups[0]?.Tasks[0];
  assert.equal(task?.Resources.MemoryMB, 32_768);
  assert.equal(task?.Resources.Devices?.length, 1);
  assert.equal(line?.job.Constraints.length, 3);
});

test("a misspelt field of a registration is told with its line", { skip }, async () => {
  const path = join(folder, "misspelt.json");
  writeFileSync(path, '{"Job": {\n"ID": "x",\n"Kill_Timeout": 1\n}}');
  const said = (await contract?.refusal("strict", path)) ?? "";
  assert.match(said, /misspelt\.json:3: json: unknown field "Kill_Timeout"/);
});

test("the trial's job dispatches what the scheduler sends, well below Nomad's 16 KiB", {
  skip,
}, async () => {
  const { job } = await read("trial.nomad.hcl");
  const { ParameterizedJob: asks } = job as unknown as {
    ParameterizedJob: { Payload: string; MetaRequired: string[]; MetaOptional: string[] };
  };
  assert.deepEqual(asks, {
    Payload: "required",
    MetaRequired: [META.trial, META.allocation],
    MetaOptional: [META.apiUrl],
  });
  assert.equal(taskOf({ job, variables: [] }).KillTimeout, 20 * NS);
});
