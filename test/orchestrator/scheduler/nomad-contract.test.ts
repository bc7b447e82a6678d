/**
 * Goal: our stub of Nomad answers as HashiCorp's own client expects, so that what our scheduler is
 * tested against is not merely what we think Nomad is.
 *
 * Method: `tools/nomadcontract` registers the job that our scheduler registers, dispatches it, and
 * asks for all else that the scheduler uses, with a token and without access control.
 */
import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, test } from "node:test";
import { baseJob, variantOf } from "../../../orchestrator/scheduler/nomad-job.ts";
import type { Job } from "../../../orchestrator/scheduler/nomad-wire.ts";
import { openSchedulerFolder } from "../../support/local-scheduler.ts";
import { testJob } from "../../support/nomad.ts";
import { openNomadStub } from "../../support/nomad-stub/stub.ts";
import type { StubToken } from "../../support/nomad-stub/tokens.ts";
import { buildNomadContract } from "../../support/nomadcontract.ts";

const TOKEN = "3f6c0c0e-1111-4222-8333-444455556666";
const contract = await buildNomadContract();
const skip = contract === null ? "there is no go on the PATH" : false;
after(() => contract?.remove());

const STEPS = [
  "token",
  "register",
  "refusals",
  "dispatch and events",
  "dispatch again",
  "allocation",
  "logs",
  "nodes and drain",
  "deregister",
];
const TOKENS: Record<string, StubToken> = { [TOKEN]: { name: "autocode", may: ["management"] } };
/** What the policy that we give to operators allows, and no more. */
const POLICY: Record<string, StubToken> = {
  [TOKEN]: { name: "autocode-orchestrator", may: await allowedByPolicy() },
};

for (const [how, token, tokens] of [
  ["without access control", "", {}],
  ["with a token", TOKEN, TOKENS],
  ["with the rights of our policy", TOKEN, POLICY],
] as const) {
  test(`the official client converses with the stub, ${how}`, { skip }, async () => {
    await using folder = await openSchedulerFolder();
    await using local = await folder.open();
    await using stub = await openNomadStub({ local, tokens });
    const path = join(folder.path, "register.json");
    const job = baseJob({
      name: "autocode-trial",
      namespace: "default",
      command: [process.execPath, "/opt/autocode/worker-agent/main.ts"],
      agentsDir: folder.path,
      env: {},
    });
    await writeFile(path, JSON.stringify({ Job: job }));
    const lines = await contract?.check<{ step: string; detail: string }>(
      "converse",
      stub.address,
      token,
      path,
    );
    assert.deepEqual(
      lines?.map(({ step }) => step),
      STEPS,
    );
  });
}

test("a conversation with the wrong token ends at the first question", { skip }, async () => {
  await using folder = await openSchedulerFolder();
  await using local = await folder.open();
  await using stub = await openNomadStub({ local, tokens: TOKENS });
  const path = join(folder.path, "register.json");
  await writeFile(path, JSON.stringify({ Job: { ID: "autocode-trial" } }));
  const said = (await contract?.refusal("converse", stub.address, "wrong", path)) ?? "";
  assert.match(said, /^token: .*403/);
});

async function allowedByPolicy(): Promise<string[]> {
  const path = "../../../nomad-jobs/policies/nomad/orchestrator.policy.hcl";
  const text = await readFile(join(import.meta.dirname, path), "utf8");
  const [, listed = ""] = /namespace "default" \{\s*capabilities = \[([^\]]*)\]/.exec(text) ?? [];
  const named = [...listed.matchAll(/"([^"]+)"/g)].map(([, name = ""]) => name);
  const levels = [...text.matchAll(/^(node|agent) \{\s*policy = "(read|write)"/gm)];
  const coarse = levels.flatMap(([, what, level]) =>
    level === "write" ? [`${what}:read`, `${what}:write`] : [`${what}:read`],
  );
  return [...named, ...coarse];
}

test("a variant with all that a trial can ask for is a job of Nomad's", { skip }, async () => {
  await using folder = await openSchedulerFolder();
  const base = testJob(folder.path);
  const asked = { pool: "gpu", cpus: 8, memory_bytes: 2 ** 34, disk_bytes: 2 ** 33 };
  const gpu = { gpus: 2, gpu_memory_bytes: 2 ** 34, vm_template: "gpu-worker" };
  const registered = { ...base, JobModifyIndex: 1 } as unknown as Job;
  const variant = variantOf(registered, { ...asked, ...gpu });
  const path = join(folder.path, "variant.json");
  await writeFile(path, JSON.stringify({ Job: variant, EnforceIndex: true, JobModifyIndex: 0 }));
  const [line] = (await contract?.check<{ job: Job }>("strict", path)) ?? [];
  assert.equal(line?.job.ID, variant["ID"]);
  assert.equal(line?.job.TaskGroups[0]?.Tasks[0]?.Resources?.MemoryMB, 16_384);
});
