/**
 * Goal: what a trial's worker printed reaches whoever may see the trial: without secrets, however
 * they are cut up over the bytes, and with a reason where there is nothing.
 *
 * Method: real workers of a real local scheduler and the real redactor; trials are rows.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { sql } from "drizzle-orm";
import fc from "fast-check";
import type { AllocationId, TrialId } from "../../../orchestrator/runtime/ids.ts";
import { createRedactor } from "../../../orchestrator/traffic/redact.ts";
import { redactLines } from "../../../orchestrator/trials/redact-lines.ts";
import { createWorkerLogs } from "../../../orchestrator/trials/worker-logs.ts";
import { openSchedulerFolder } from "../../support/local-scheduler.ts";
import { openTrialWorld } from "../../support/trial-world.ts";
import { placement, settled } from "../scheduler/conformance.ts";

const SECRET = "a-known-secret-of-ours-4711";
const redactor = createRedactor({
  values: [{ value: SECRET, kind: "secret" }],
  sha256: new Set(),
});
const redact = (text: string) => redactor.begin([]).text(text);
const { signal } = new AbortController();
const NEWEST = { allocationId: null, output: null, isFollowed: false, signal };

test("a worker's log by its trial, while it runs and afterwards", async () => {
  await using opened = await openTrialWorld();
  await using folder = await openSchedulerFolder();
  await using scheduler = await folder.open();
  const { database } = opened.world;
  const logs = createWorkerLogs({ db: database, scheduler, redact });
  const id = await opened.create();
  await assert.rejects(logs.read("trial_01jzzzzzzzzzzzzzzzzzzzzzzz", NEWEST), /no trial/);
  await assert.rejects(logs.read(id, NEWEST), /has had no worker yet: it is queued; follow/);

  const agent = await allocate(id, 1, "agent");
  const followed = { ...NEWEST, isFollowed: true };
  // Followed from before it runs.
  await scheduler.place({ ...placement("wait"), allocationId: agent, trialId: id });
  const reading = logs.read(id, followed);
  let text = "";
  for await (const piece of await reading) {
    text += piece;
    if (/out:ready/.test(text) && /err:ready/.test(text)) await scheduler.stop(agent);
  }
  assert.deepEqual(text.split("\n").filter(Boolean).toSorted(), ["err:ready", "out:ready"]);
  assert.equal(await settled(scheduler, agent), "failed");
  assert.equal(await joined(logs.read(id, { ...NEWEST, output: "stderr" })), "err:ready\n");

  const verify = await allocate(id, 2, "verify");
  await assert.rejects(logs.read(id, NEWEST), /Nothing is kept .* its host is gone/);
  const older = { ...NEWEST, allocationId: agent, output: "stdout" } as const;
  assert.equal(await joined(logs.read(id, older)), "out:ready\n");
  const strange = logs.read(id, { ...NEWEST, allocationId: "allocation_of_another" });
  await assert.rejects(strange, new RegExp(`is none of ${id}; it has had ${verify} \\(verify\\)`));

  await database.sql.execute(sql`update allocation set scheduler = 'nomad' where id = ${verify}`);
  await assert.rejects(logs.read(id, NEWEST), /by the scheduler "nomad".*now uses "local"/);

  async function allocate(trialId: TrialId, fence: number, purpose: string) {
    const { allocationId } = placement("wait");
    await database.sql.execute(sql`
      insert into allocation (id, trial_id, purpose, fence, scheduler, created_at)
      values (${allocationId}, ${trialId}, ${purpose}, ${fence}, 'local',
        clock_timestamp() + ${`${fence} s`}::interval)`);
    return allocationId as AllocationId;
  }
});

test("the host of a lost worker is said to be gone", async () => {
  await using opened = await openTrialWorld();
  const { database } = opened.world;
  const id = await opened.create();
  const { allocationId } = placement("wait");
  await database.sql.execute(sql`
    insert into allocation (id, trial_id, purpose, fence, scheduler, created_at)
    values (${allocationId}, ${id}, 'agent', 1, 'fleet', clock_timestamp())`);
  const scheduler = {
    name: "fleet",
    logs: async () => null,
    status: async () => "lost" as const,
  };
  const logs = createWorkerLogs({ db: database, scheduler, redact });
  await assert.rejects(logs.read(id, NEWEST), /The host of .* is gone, and the worker's log/);
});

test("no secret passes, wherever the bytes are cut", async () => {
  const key = ["-----BEGIN PRIVATE KEY-----", "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC".repeat(2)];
  const token = `ghp_${"a1B2".repeat(9)}`;
  const text = [
    `{"msg":"é with ${SECRET}"}`,
    `bearer ${token}`,
    ...key,
    "-----END PRIVATE KEY-----",
    `the last, without an end: ${SECRET}`,
  ].join("\n");
  const bytes = Buffer.from(text);
  await fc.assert(
    fc.asyncProperty(fc.array(fc.integer({ min: 0, max: bytes.length })), async (cuts) => {
      const ends = [...cuts.toSorted((one, other) => one - other), bytes.length];
      async function* pieces() {
        for (const [at, end] of ends.entries()) yield bytes.subarray(ends[at - 1] ?? 0, end);
      }
      let shown = "";
      for await (const piece of redactLines(pieces(), redact)) shown += piece;
      for (const secret of [SECRET, token, "MIIEvQ"]) assert.ok(!shown.includes(secret), shown);
      assert.match(shown, /^\{"msg":"é with \[redacted:secret\]"\}\nbearer \[redacted:/);
    }),
  );
});

async function joined(reading: Promise<AsyncIterable<string>>): Promise<string> {
  let all = "";
  for await (const piece of await reading) all += piece;
  return all;
}
