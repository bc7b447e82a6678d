/** Goal: the doctor tells where Nomad stands, what we may do there, and the step that lacks. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { describeNomad } from "../../../orchestrator/scheduler/nomad-doctor.ts";
import { nomadClient, openNomadWorld, testJob } from "../../support/nomad.ts";

type World = Awaited<ReturnType<typeof openNomadWorld>>;

async function describe(
  { nomad }: World,
  {
    token = null,
    registersItself = true,
  }: { token?: string | null; registersItself?: boolean } = {},
) {
  const client = nomadClient(nomad.address, { token });
  try {
    return await describeNomad(client, {
      address: nomad.address,
      namespace: "default",
      region: null,
      job: "autocode-trial",
      why: "NOMAD_ADDR is set",
      installCommand: "nomad job run nomad-jobs/trial.nomad.hcl",
      registersItself,
      trouble: () => null,
    });
  } finally {
    await client.close();
  }
}

test("all is well, the token and its policies named", async () => {
  const tokens = { t: { name: "autocode", may: ["management"] } };
  await using world = await openNomadWorld({ stub: { tokens }, client: { token: "t" } });
  const said = await describe(world, { token: "t" });
  assert.deepEqual(said, {
    status: "ok",
    detail:
      `nomad at ${world.nomad.address}, namespace default; NOMAD_ADDR is set; version 2.0.5; ` +
      'token "autocode" (management: autocode); 1 of 1 nodes ready',
    next_step: null,
  });
});

test("what is missing is told with what mends it", async (t) => {
  const job = "the job autocode-trial is not registered";
  await t.test("the job, where it is not ours to register", async () => {
    await using world = await openNomadWorld();
    const said = await describe(world, { registersItself: false });
    assert.equal(said.status, "missing");
    assert.match(said.detail, new RegExp(`; ${job}$`));
    assert.equal(said.next_step, "nomad job run nomad-jobs/trial.nomad.hcl");
    const { Meta: _, ...own } = testJob(world.folder.path);
    world.nomad.state.register(own, null);
    assert.equal((await describe(world, { registersItself: false })).status, "ok");
    world.nomad.state.deregister("autocode-trial", false);
    const stopped = await describe(world);
    assert.match(stopped.detail, /the job autocode-trial is stopped$/);
  });

  await t.test("a token, and a right", async () => {
    const tokens = {
      t: { name: "reader", may: ["list-jobs"] },
      jwt: { name: "job", may: ["management"], isWorkload: true },
    };
    await using world = await openNomadWorld({ stub: { tokens } });
    for (const token of [null, "wrong", "t"]) {
      const said = await describe(world, { token });
      assert.equal(said.status, "missing");
      assert.match(said.detail, /Nomad refused to .*: (Permission denied|ACL token not found)/);
      assert.match(said.next_step ?? "", /^set NOMAD_TOKEN to a token with the policy/);
    }
    const workload = await describe(world, { token: "jwt" });
    assert.match(workload.detail, /token \(no ACL token\) \(workload identity\)/);
  });

  await t.test("a client, a newer version, Nomad itself", async () => {
    await using none = await openNomadWorld({ stub: { nodes: [] } });
    const clients = await describe(none);
    assert.deepEqual(
      [clients.status, clients.next_step],
      ["warn", "start a Nomad client: no node is ready"],
    );
    await using old = await openNomadWorld({ stub: { version: "1.7.7" } });
    const version = await describe(old);
    assert.match(version.detail, /version 1\.7\.7;.*: trials need Nomad 1\.8/);
    assert.equal(version.next_step, "upgrade Nomad");
    await old.nomad.goAway();
    const away = await describe(old);
    assert.match(away.detail, /NOMAD_ADDR is set: Nomad at http:\S+ did not answer/);
    assert.match(away.next_step ?? "", /^start Nomad, or set NOMAD_ADDR/);
    await old.nomad.comeBack();
  });
});
