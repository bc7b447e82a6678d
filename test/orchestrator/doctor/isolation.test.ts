/** Goal: the doctor says plainly when nothing stands between an agent and this installation. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { createDoctor, type DoctorDependencies } from "../../../orchestrator/doctor/doctor.ts";

type Given = Awaited<ReturnType<DoctorDependencies["probeIsolation"]>>;
const NONE: Given = { kind: "none", detail: "egress is advisory: bwrap is not installed" };

async function isolation(isRoot: boolean, closed: string | null, given = NONE) {
  const found = await findings(isRoot, closed, given, []);
  return found.find(({ part }) => part === "isolation");
}

/** @param served pairs that are up on GPUs of ours. */
function findings(isRoot: boolean, closed: string | null, given: Given, served: string[]) {
  const rows = served.map((pair) => ({ pair }));
  const dependencies = {
    db: { name: "embedded", version: "17", sql: { execute: async () => ({ rows }) } },
    config: { home: "/home/me/.autocode", isRoot, databaseUrl: null },
    describeScheduler: async () => ({ status: "ok", detail: "local", next_step: null }),
    installer: { facts: [] },
    pairs: { list: () => [] },
    gateway: { metrics: async () => "" },
    closedToAgents: async () => closed,
    probeIsolation: async () => given,
    journal: {
      status: async () => ({
        key: { key_id: "ed25519:k", fingerprint: "SHA256:f", public_key: "PEM" },
        ...{ sealed: 0, unsealed: 0, checkpoints: 0, last_signed_at: null },
      }),
    },
    secrets: { name: "file" },
  } as unknown as DoctorDependencies;
  return createDoctor(dependencies).doctor();
}

test("as a normal user: agents can read hidden tests and the token", async () => {
  const found = await isolation(false, null);
  assert.equal(found?.status, "warn");
  assert.match(found?.detail ?? "", /NONE .*hidden tests.*admin token in \/home\/me\/\.autocode/);
  assert.match(found?.next_step ?? "", /^install bubblewrap/);
});

test("as root with Node in a closed folder: agents run as root", async () => {
  const found = await isolation(true, "/root");
  assert.match(found?.detail ?? "", /run as ROOT.*cannot pass through \/root$/);
  assert.match(found?.next_step ?? "", /^chmod o\+x \/root/);
});

test("as root: a user for each slot", async () => {
  assert.match((await isolation(true, null))?.detail ?? "", /a user of its own for each slot/);
});

test("what this machine gives a trial is said as it is", async () => {
  const namespace: Given = { kind: "namespace", detail: "a network namespace: all else dropped" };
  const asRoot = await isolation(true, null, namespace);
  assert.deepEqual(
    [asRoot?.status, asRoot?.detail],
    ["ok", "a user of its own for each slot; a network namespace: all else dropped"],
  );
  const sandbox: Given = { kind: "sandbox", detail: "a sandbox of bubblewrap" };
  const asUser = await isolation(false, null, sandbox);
  assert.deepEqual([asUser?.status, asUser?.detail], ["ok", "a sandbox of bubblewrap"]);
  assert.equal((await isolation(true, null))?.status, "warn");
  assert.match((await isolation(true, null, null))?.detail ?? "", /workers, which each say/);
});

test("engines that agents reach past the gateway are warned of, and only those", async () => {
  const sandbox: Given = { kind: "sandbox", detail: "a sandbox of bubblewrap" };
  const engines = async (given: Given, served: string[]) =>
    (await findings(true, null, given, served)).find(({ part }) => part === "engines");
  const found = await engines(NONE, ["coder-14b", "coder-7b"]);
  assert.equal(found?.status, "warn");
  assert.match(found?.detail ?? "", /^coder-14b, coder-7b: .*past the gateway, outside of every/);
  assert.equal(await engines(NONE, []), undefined);
  assert.equal(await engines(sandbox, ["coder-14b"]), undefined);
});
