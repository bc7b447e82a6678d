/** Goal: the doctor says plainly when nothing stands between an agent and this installation. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { createDoctor, type DoctorDependencies } from "../../../orchestrator/doctor/doctor.ts";

async function isolation(isRoot: boolean, closed: string | null) {
  const dependencies = {
    db: { name: "embedded", version: "17" },
    config: { home: "/home/me/.autocode", isRoot, databaseUrl: null },
    describeScheduler: async () => ({ status: "ok", detail: "local", next_step: null }),
    installer: { facts: [] },
    pairs: { list: () => [] },
    gateway: { metrics: async () => "" },
    closedToAgents: async () => closed,
    journal: {
      status: async () => ({
        key: { key_id: "ed25519:k", fingerprint: "SHA256:f", public_key: "PEM" },
        ...{ sealed: 0, unsealed: 0, checkpoints: 0, last_signed_at: null },
      }),
    },
    secrets: { name: "file" },
  } as unknown as DoctorDependencies;
  const found = await createDoctor(dependencies).doctor();
  return found.find(({ part }) => part === "isolation");
}

test("as a normal user: agents can read hidden tests and the token", async () => {
  const found = await isolation(false, null);
  assert.equal(found?.status, "warn");
  assert.match(found?.detail ?? "", /NONE .*hidden tests.*admin token in \/home\/me\/\.autocode/);
});

test("as root with Node in a closed folder: agents run as root", async () => {
  const found = await isolation(true, "/root");
  assert.match(found?.detail ?? "", /run as ROOT.*cannot pass through \/root$/);
  assert.match(found?.next_step ?? "", /^chmod o\+x \/root/);
});

test("as root: a user for each slot", async () => {
  assert.match((await isolation(true, null))?.detail ?? "", /a user of its own for each slot/);
});
