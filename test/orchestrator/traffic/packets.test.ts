/** Goal: what a worker's network dropped is in the record: once, whole, and in bounded numbers. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { createIds } from "../../../orchestrator/runtime/ids.ts";
import { createLog } from "../../../orchestrator/runtime/log.ts";
import { seededRandom } from "../../../orchestrator/runtime/random.ts";
import { createPacketRecords } from "../../../orchestrator/traffic/packets.ts";
import type { FlowDraft } from "../../../orchestrator/traffic/sink.ts";
import { createTestClock } from "../../support/ledger.ts";

function openRecords() {
  const clock = createTestClock();
  const ids = createIds(clock, seededRandom(7));
  const drafts: FlowDraft[] = [];
  const faults = { next: false };
  const append = async (draft: FlowDraft) => {
    if (faults.next) throw new Error("the spool is full");
    drafts.push(draft);
  };
  const record = createPacketRecords({ append }, { clock, log: createLog("silent") });
  const owner = {
    projectId: ids.next("project"),
    trialId: ids.next("trial"),
    ...{ allocationId: ids.next("allocation"), agent: "aider" },
  };
  let cursor = 0;
  const told = (destination: unknown, protocol: unknown, packets: unknown) => {
    cursor += 1;
    const at = new Date(clock.ms).toISOString();
    return { cursor, at, data: { destination, protocol, packets } };
  };
  return { clock, drafts, faults, record, owner, told };
}

test("each destination, port and protocol with its count, and since when", async () => {
  const { clock, drafts, record, owner, told } = openRecords();
  const atMs = clock.ms;
  await record(owner, [
    told("192.0.2.1:443", "tcp", 2),
    told("[2001:db8::1]:53", "udp", 1),
    told("192.0.2.2", "icmp", 4),
    told("*", "any", 900),
  ]);
  clock.ms += 5_000;
  await record(owner, [told("192.0.2.1:443", "tcp", 7)]);
  const seen = drafts.map(({ server, transport, sentCount, startedAtMs, durationMs }) => [
    ...[server.host, server.port, server.address, transport, sentCount],
    ...[startedAtMs - atMs, durationMs],
  ]);
  assert.deepEqual(seen, [
    ["192.0.2.1", 443, "192.0.2.1", "tcp", 2, -1_000, 1_000],
    ["2001:db8::1", 53, "2001:db8::1", "udp", 1, -1_000, 1_000],
    ["192.0.2.2", 0, "192.0.2.2", "icmp", 4, -1_000, 1_000],
    ["*", 0, null, "any", 900, -1_000, 1_000],
    ["192.0.2.1", 443, "192.0.2.1", "tcp", 7, 0, 5_000],
  ]);
  for (const { kind, engine, decision, agent } of drafts) {
    assert.deepEqual([kind, engine, agent], ["packet", "worker", "aider"]);
    assert.deepEqual([decision.action, decision.reason], ["deny", "dropped"]);
  }
});

test("a telling that arrives again has the id that it had", async () => {
  const { drafts, record, owner, told } = openRecords();
  const one = told("192.0.2.1:443", "tcp", 2);
  await record(owner, [one]);
  await record(owner, [one]);
  assert.equal(drafts[0]?.id, drafts[1]?.id);
  await record(owner, [told("192.0.2.1:443", "tcp", 2)]);
  assert.notEqual(drafts[0]?.id, drafts[2]?.id);
});

test("a worker that floods makes 5,000 records, and one a minute of all the rest", async () => {
  const { clock, drafts, record, owner, told } = openRecords();
  for (let round = 0; round < 60; round++) {
    await record(
      owner,
      Array.from({ length: 100 }, (_, port) => told(`192.0.2.1:${port + 1}`, "udp", 3)),
    );
  }
  assert.equal(drafts.length, 5_000);
  clock.ms += 60_000;
  await record(owner, [told("192.0.2.1:1", "udp", 3), told("192.0.2.1:2", "udp", 5)]);
  assert.equal(drafts.length, 5_001);
  const last = drafts.at(-1);
  assert.deepEqual([last?.server.host, last?.transport, last?.sentCount], ["*", "any", 3_003]);
  assert.equal(last?.durationMs, 60_000);
  clock.ms += 60_000;
  await record(owner, [told("192.0.2.1:1", "udp", 1)]);
  assert.equal(drafts.at(-1)?.sentCount, 6, "what came after the last sum is in the next");
});

test("what no worker of ours would say makes no record, and a sink's fault ends nothing", async () => {
  const { clock, drafts, faults, record, owner, told } = openRecords();
  const nonsense = [
    told("evil.example:443", "tcp", 1),
    told("192.0.2.1:443", "TCP\n", 1),
    told("192.0.2.1:99999", "tcp", 1),
    ...[0, -1, 1.5, "7", Number.MAX_VALUE].map((packets) => told("192.0.2.1:1", "tcp", packets)),
    told(null, "tcp", 1),
  ];
  await record(owner, nonsense);
  assert.equal(drafts.length, 0);
  const early = { ...told("192.0.2.1:1", "tcp", 1), at: "1970-01-01T00:00:00Z" };
  await record(owner, [early]);
  assert.equal(drafts[0]?.startedAtMs, clock.ms - 1_000, "another clock than ours is not believed");
  faults.next = true;
  await record(owner, [told("192.0.2.1:1", "tcp", 1)]);
  assert.equal(drafts.length, 1);
});
