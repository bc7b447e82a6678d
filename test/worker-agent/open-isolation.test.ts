/** Goal: the first way that a host gives is taken, and where there is none, why is said. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { openIsolation } from "../../worker-agent/open-isolation.ts";
import { probeIsolation } from "../../worker-agent/probe-isolation.ts";
import { makeRooms } from "../../worker-agent/rooms.ts";
import { openFolder } from "../support/worker-world.ts";

test("every way's own words tell why there is none", async () => {
  using folder = openFolder();
  const rooms = await makeRooms(join(folder.path, "rooms"), null);
  const refuse = (why: string) => async () => {
    throw new Error(why);
  };
  const proxyUrl = "http://10.0.0.1:8080";
  const request = { allocationId: "allocation_1", rooms, runAs: null, gatewayUrl: null, proxyUrl };
  await using isolation = await openIsolation(
    { ...request, hidden: [], kept: [], onDropped: () => {}, onLost: () => {} },
    [refuse("no namespace: not root"), refuse("no sandbox: bwrap is not installed")],
  );
  assert.deepEqual(
    [isolation.kind, isolation.proxyUrl, isolation.gatewayUrl],
    ["none", proxyUrl, null],
  );
  assert.equal(
    isolation.detail,
    "egress is advisory: programs are told of the proxy, and not forced to use it " +
      "(no namespace: not root; no sandbox: bwrap is not installed)",
  );
  const command = { file: "/bin/true", args: [], env: {}, cwd: "/", runAs: null };
  assert.equal(isolation.wrap(command), command);
});

test("a probe says what this machine gives, and leaves nothing", async () => {
  const { kind, detail } = await probeIsolation(null);
  assert.equal(detail.startsWith("egress is advisory"), kind === "none");
  if (process.getuid?.() === 0) assert.equal(kind, "namespace", detail);
});
