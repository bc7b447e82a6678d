/** Goal: what nft counts is told once, by destination, and a bounded number of times. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { createTally } from "../../../worker-agent/isolate/firewall.ts";

/** As `nft -j list table` prints it. */
function listing(counts: readonly [string, string, number, number][], all?: number): string {
  const elem = counts.map(([address, protocol, port, packets]) => ({
    elem: { val: { concat: [address, protocol, port] }, counter: { packets, bytes: 1 } },
  }));
  const refused = all ?? counts.reduce((total, [, , , packets]) => total + packets, 0);
  return JSON.stringify({
    nftables: [
      { metainfo: { version: "1.0.6" } },
      { set: { name: "dropped4", elem } },
      { set: { name: "dropped6" } },
      { counter: { name: "refused", packets: refused } },
    ],
  });
}

test("only what is new is told", () => {
  const tally = createTally();
  assert.deepEqual(tally(listing([["192.0.2.1", "tcp", 443, 2]])), [
    { destination: "192.0.2.1:443", protocol: "tcp", packets: 2 },
  ]);
  const more = listing([
    ["192.0.2.1", "tcp", 443, 5],
    ["2001:db8::1", "udp", 53, 1],
    ["192.0.2.2", "icmp", 0, 1],
  ]);
  assert.deepEqual(tally(more), [
    { destination: "192.0.2.1:443", protocol: "tcp", packets: 3 },
    { destination: "[2001:db8::1]:53", protocol: "udp", packets: 1 },
    { destination: "192.0.2.2", protocol: "icmp", packets: 1 },
  ]);
  assert.deepEqual(tally(more), []);
});

test("a flood of destinations, or to one of them, is told a bounded number of times", () => {
  const tally = createTally();
  const many = Array.from({ length: 1_000 }, (_, port): [string, string, number, number] => [
    "192.0.2.1",
    "udp",
    port + 1,
    1,
  ]);
  assert.equal(tally(listing(many)).length, 201);
  let told = 0;
  for (let round = 2; round < 500; round++) {
    told += tally(listing(many.map(([a, p, port]) => [a, p, port, round]))).length;
  }
  assert.ok(told <= 201 * 20, `${told}`);
});

test("what was told too often meanwhile is told at the end: no packet is left out", () => {
  for (const destinations of [1, 500]) {
    const tally = createTally();
    const flood = (packets: number) =>
      listing(
        Array.from({ length: destinations }, (_, port) => ["192.0.2.1", "udp", port + 1, packets]),
      );
    let sum = 0;
    for (let round = 1; round <= 50; round++) {
      for (const { packets } of tally(flood(round), round === 50)) sum += packets;
    }
    assert.equal(sum, 50 * destinations);
  }
});
