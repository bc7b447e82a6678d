/**
 * Goal: a node that starts the tasks of nomad-jobs/ as they say starts what they are for: their
 * command lines, environments and signals are those that our programs take.
 *
 * Method: each task is rendered by HashiCorp's decoder, Nomad's runtime variables are put in, and
 * it is started as Nomad's driver raw_exec does. No Nomad is here: placement is not what is tested.
 */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { after, test } from "node:test";
import {
  cleanEnvironment,
  openFolder,
  openInstallation,
  ROOT,
  runToEnd,
  whyNoAgents,
} from "../support/installation.ts";
import { buildNomadContract } from "../support/nomadcontract.ts";

const contract = await buildNomadContract();
const skip = contract === null ? "there is no go on the PATH" : false;
const skipAgent = skip || (await whyNoAgents("qwen-code"));
after(() => contract?.remove());

interface Task {
  Config: { command: string; args: string[] };
  Env: Record<string, string>;
  KillSignal: string;
}

/** The task of a job file, with its checkout here. */
async function taskOf(file: string, ...values: string[]): Promise<Task> {
  const given = [`checkout=${ROOT}`, `node=${process.execPath}`, ...values];
  const flags = given.flatMap((value) => ["-var", value]);
  const path = join(ROOT, "nomad-jobs", file);
  const [line] =
    (await contract?.check<{ job: { TaskGroups: { Tasks: Task[] }[] } }>(
      "jobspec",
      ...flags,
      path,
    )) ?? [];
  const task = line?.job.TaskGroups[0]?.Tasks[0];
  assert.ok(task !== undefined);
  return task;
}

/** What a task's process has: its own, with Nomad's variables in it, and those variables. */
function environmentOf(task: Task, runtime: Record<string, string>): Record<string, string> {
  const own = Object.entries(task.Env).map(([name, value]) => [
    name,
    value.replaceAll(/\$\{([^}]+)\}/g, (_, variable: string) => {
      assert.ok(variable in runtime, `${name}: ${variable} is none of Nomad's`);
      return runtime[variable] ?? "";
    }),
  ]);
  return { ...cleanEnvironment(), ...runtime, ...Object.fromEntries(own) };
}

test("a trial's task takes its token from the payload's file and leaves nothing", {
  skip,
}, async () => {
  await using folder = await openFolder();
  const asked: { url: string | undefined; body: string }[] = [];
  const server = createServer((request, response) => {
    let body = "";
    request.on("data", (bytes: Buffer) => {
      body += bytes;
    });
    request.on("end", () => {
      asked.push({ url: request.url, body });
      response.writeHead(401, { "content-type": "application/problem+json" });
      response.end(
        JSON.stringify({
          type: "/problems/unauthenticated",
          title: "Unauthenticated",
          status: 401,
          detail: "No such token",
        }),
      );
    });
  });
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  const { port } = server.address() as AddressInfo;
  const task = await taskOf("trial.nomad.hcl", `agents_dir=${join(folder.path, "agents")}`);
  const local = join(folder.path, "local");
  await mkdir(local);
  await writeFile(join(local, "enrolment-token"), "et-1.token");

  const ended = await runToEnd(task.Config.command, task.Config.args, {
    cwd: folder.path,
    env: environmentOf(task, {
      NOMAD_TASK_DIR: local,
      NOMAD_ALLOC_DIR: join(folder.path, "alloc"),
      NOMAD_ALLOC_ID: "5c1a1f0e-7c1e-4f5c-9d0a-6f2b6a1c0b1d",
      NOMAD_META_api_url: `http://127.0.0.1:${port}`,
    }),
  });
  server.closeAllConnections();
  server.close();

  assert.equal(ended.exit, 1, ended.err);
  assert.match(ended.err, /No such token/);
  assert.deepEqual(asked, [
    { url: "/api/v1/worker/enrol", body: JSON.stringify({ enrolment_token: "et-1.token" }) },
  ]);
  assert.equal(existsSync(join(local, "enrolment-token")), false);
  assert.equal(existsSync(join(local, "trial")), false);
});

test("the orchestrator's task becomes ready where Nomad looks, and an experiment's follows it", {
  skip: skipAgent,
}, async (t) => {
  const task = await taskOf(
    "orchestrator.nomad.hcl",
    ...["secrets_from=none", "scheduler=local", "node_name=here"],
  );
  assert.deepEqual(task.Config.args, [join(ROOT, "orchestrator/main.ts")]);
  // The home is the fixture's own.
  const { AUTOCODE_HOME: _, ...own } = environmentOf(task, {
    NOMAD_IP_api: "127.0.0.1",
    NOMAD_PORT_api: "0",
    NOMAD_PORT_gateway: "0",
  });
  await using installation = await openInstallation({ env: own });
  await installation.start();

  await t.test("its check answers, also by the node's address", async () => {
    const answer = await fetch(`${installation.url()}/readyz`);
    assert.equal(answer.status, 200);
    assert.deepEqual(((await answer.json()) as { is_ready: boolean }).is_ready, true);
  });

  const applied = await installation.cli(
    "project",
    "apply",
    "--path",
    join(ROOT, "examples/example/autocode.yaml"),
  );
  assert.equal(applied.exit, 0, applied.err);
  // The first finds the server in its data folder; the second has a token of its own, as a job that
  // runs by itself does.
  const made = await installation.cli("token", "create", "nomad-trials", "--role", "operator");
  assert.equal(made.exit, 0, made.err);
  for (const [name, exit, verdict, where, secrets] of [
    ["fix-median", 0, "passed", `home=${installation.home}`, {}],
    [
      ...(["parse-duration", 1, "failed"] as const),
      `api_url=${installation.url()}`,
      { AUTOCODE_TOKEN: made.out.trim() },
    ],
  ] as const) {
    await t.test(`an experiment that ${verdict} ends with ${exit}`, async () => {
      const submit = await taskOf(
        "trials.nomad.hcl",
        ...["project=example", `experiment=nightly-${name}`, where],
        'agents=["qwen-code"]',
        'models=["scripted"]',
        `tasks=["${name}"]`,
        "concurrency=1",
        "budget=0.50",
      );
      const ended = await runToEnd(submit.Config.command, submit.Config.args, {
        cwd: installation.folder,
        env: { ...environmentOf(submit, {}), ...secrets },
      });
      assert.equal(ended.exit, exit, ended.err);
      assert.match(ended.out, new RegExp(`qwen-code .*${verdict}`));
    });
  }
  await installation.stop();
});

test("an experiment's task without an orchestrator says so and ends with 5", { skip }, async () => {
  const task = await taskOf(
    "trials.nomad.hcl",
    "project=example",
    "experiment=nightly",
    'agents=["aider", "codex"]',
    'models=["scripted"]',
    "attempts=2",
    "api_url=http://127.0.0.1:1",
  );
  assert.equal(task.KillSignal, "SIGINT");
  const env = { ...environmentOf(task, {}), AUTOCODE_TOKEN: "a secret" };
  const ended = await runToEnd(task.Config.command, task.Config.args, { env });
  assert.equal(ended.exit, 5, ended.err);
  assert.match(ended.err, /does not answer at http:\/\/127\.0\.0\.1:1/);
});

test("the proxy's task says what it lacks without a database", { skip }, async () => {
  await using folder = await openFolder();
  const task = await taskOf("proxy.nomad.hcl");
  const runtime = {
    NOMAD_IP_gateway: "127.0.0.1",
    NOMAD_PORT_gateway: "0",
    NOMAD_PORT_metrics: "0",
    NOMAD_TASK_DIR: folder.path,
  };
  const ended = await runToEnd(task.Config.command, task.Config.args, {
    cwd: folder.path,
    env: environmentOf(task, runtime),
  });
  assert.equal(ended.exit, 2, ended.err);
  assert.match(ended.err, /DATABASE_URL: a gateway of its own process needs the ledger's database/);
});

test("a host's task says what it lacks to join, by the node's own name", { skip }, async () => {
  await using folder = await openFolder();
  const given = ["api_url=http://127.0.0.1:1", `dir=${join(folder.path, "worker")}`, "slots=2"];
  const task = await taskOf("worker-host.nomad.hcl", ...given);
  const ended = await runToEnd(task.Config.command, task.Config.args, {
    cwd: folder.path,
    env: environmentOf(task, { "node.unique.name": "node-7" }),
  });
  assert.equal(ended.exit, 1, ended.err);
  assert.match(ended.err, /AUTOCODE_JOIN_TOKEN/);
});
