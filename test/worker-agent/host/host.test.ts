/**
 * Goal: a host joins only when it is ready and allowed to, keeps its token to itself, and ends what
 * is no longer its own.
 *
 * Method: the host's life in this process, against a real fleet; its workers are processes.
 */

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { sql } from "drizzle-orm";
import { Value } from "typebox/value";
import { Capabilities } from "../../../orchestrator/contract/workers.ts";
import { measureCapabilities, parseGpus } from "../../../worker-agent/host/capabilities.ts";
import { readHostConfig } from "../../../worker-agent/host/config.ts";
import { runHost } from "../../../worker-agent/host/host.ts";
import { createTokenFile } from "../../../worker-agent/host/token-file.ts";
import { wireHost } from "../../../worker-agent/host/wiring.ts";
import { placement } from "../../orchestrator/scheduler/conformance.ts";
import { eventually } from "../../support/eventually.ts";
import { openTestFleet, type TestFleet } from "../../support/fleet.ts";

const WORKER = join(import.meta.dirname, "../../support/local-worker.ts");

test("what is missing or wrong in its environment is told at once, by name", () => {
  const read = (env: Record<string, string | undefined>) =>
    readHostConfig(env, { isRoot: false, cwd: "/srv" });
  assert.throws(
    () => read({ AUTOCODE_WORKER_NAME: "No Name", AUTOCODE_WORKER_SLOTS: "0" }),
    /AUTOCODE_API_URL: must be .*AUTOCODE_WORKER_NAME: "No Name" must .*AUTOCODE_WORKER_SLOTS: "0"/,
  );
  assert.throws(
    () => read({ AUTOCODE_API_URL: "http://a", AUTOCODE_JOIN_TOKEN_FILE: "/no/such/file" }),
    /AUTOCODE_JOIN_TOKEN_FILE: \/no\/such\/file cannot be read \(ENOENT\)/,
  );
  const env: Record<string, string | undefined> = {
    ...{ AUTOCODE_API_URL: "http://a,http://b", AUTOCODE_JOIN_TOKEN: "secret", PATH: "/bin" },
    ...{ AUTOCODE_WORKER_NAME: "one", AUTOCODE_WORKER_SLOTS: "3", NPM_CONFIG_REGISTRY: "r" },
  };
  const { env: kept, ...config } = read(env);
  assert.deepEqual(config, {
    ...{ apiUrl: "http://a,http://b", joinToken: "secret", name: "one", slots: 3 },
    ...{ dir: "/srv/.autocode-worker", drainMs: 600_000, firstUid: null },
  });
  assert.deepEqual(kept, { PATH: "/bin", NPM_CONFIG_REGISTRY: "r" });
  assert.equal(env["AUTOCODE_JOIN_TOKEN"], undefined, "it left the environment");
});

test("what a machine has is measured, GPUs and its template too", async () => {
  await using folder = await openFolder();
  const template = join(folder.path, "template");
  await writeFile(template, "gpu-worker\n");
  const folders = { dir: folder.path, agentsDir: join(folder.path, "agents") };
  const measured = await measureCapabilities(folders, template);
  assert.ok(Value.Check(Capabilities, measured), JSON.stringify(measured));
  assert.equal(measured.vm_template, "gpu-worker");
  assert.equal((await measureCapabilities(folders, join(folder.path, "no"))).vm_template, null);
  assert.deepEqual(parseGpus("NVIDIA H100 80GB HBM3, 81559\nTesla T4, 15360\n\nNo devices\n"), [
    { name: "NVIDIA H100 80GB HBM3", memory_bytes: 81_559 * 2 ** 20 },
    { name: "Tesla T4", memory_bytes: 15_360 * 2 ** 20 },
  ]);
});

test("its token is in a file that its user alone may read", async () => {
  await using folder = await openFolder();
  const file = createTokenFile(join(folder.path, "state"));
  assert.equal(await file.read(), null);
  await file.write("first");
  await file.write("second");
  assert.equal(await file.read(), "second");
  assert.equal((await stat(join(folder.path, "state/worker-token"))).mode & 0o777, 0o600);
  await file.forget();
  assert.equal(await file.read(), null);
});

test("a bad token ends it with the reason, a living worker's name makes it wait", async () => {
  await using fleet = await openTestFleet();
  await assert.rejects(start(fleet, "one", "x".repeat(40)).ended, /unknown, used up or expired/);
  await assert.rejects(start(fleet, "one", null).ended, /AUTOCODE_JOIN_TOKEN.* is not set/);
  const first = start(fleet, "one", await fleet.joinToken());
  await eventually(() => first.log.includes("joined"), Boolean);
  const second = start(fleet, "one", await fleet.joinToken(), "elsewhere");
  await eventually(() => second.log.some((line) => line.includes("is alive")), Boolean);
  second.leaving.abort();
  first.leaving.abort();
  await Promise.all([first.ended, second.ended]);
});

test("a host takes nothing before its pool's agents are there", async () => {
  await using fleet = await openTestFleet({ agentsOf: () => ["no-such-agent"] });
  const host = start(fleet, "one", await fleet.joinToken());
  await eventually(() => host.log.some((line) => line.includes("not prepared")), Boolean);
  host.leaving.abort();
  await host.ended;
  assert.match(host.log.join(), /no agent is called .*no-such-agent/);
  assert.deepEqual(await fleet.scheduler.hosts(), []);
});

test("one whose name another took ends its allocations, and says why it goes", async () => {
  await using fleet = await openTestFleet();
  const host = start(fleet, "one", await fleet.joinToken());
  await eventually(() => host.log.includes("joined"), Boolean);
  const placed = placement("wait");
  await fleet.scheduler.place(placed);
  await eventually(() => fleet.starts(placed.allocationId) > 0, Boolean);
  await fleet.db.sql.execute(sql`update worker set heartbeat_at = 'epoch'`);
  const capabilities = await measureCapabilities({ dir: fleet.folder, agentsDir: fleet.folder });
  const name = { join_token: await fleet.joinToken(), name: "one", slots: 1, capabilities };
  await fleet.registry.join(name);
  assert.equal(await fleet.scheduler.status(placed.allocationId), "lost");
  await fleet.scheduler.place(placement("wait"));
  await assert.rejects(host.ended, /unknown, used up or expired|join again/);
  assert.ok(host.log.some((line) => line.includes("its allocations are ended")));
  assert.deepEqual(host.allocations(), []);
});

/** A host's life in this process. */
function start(fleet: TestFleet, name: string, joinToken: string | null, folder = name) {
  const leaving = new AbortController();
  const log: string[] = [];
  let ids: () => string[] = () => [];
  const dir = join(fleet.folder, folder);
  const env = { PATH: process.env["PATH"] ?? "" };
  const ended = wireHost(
    { apiUrl: fleet.url, dir, env, firstUid: null },
    {
      command: [process.execPath, WORKER, fleet.folder],
      leaving: leaving.signal,
      newRunId: randomUUID,
      log: (message, fields) => log.push(message, JSON.stringify(fields)),
      onOpened: (allocations) => {
        ids = allocations.ids;
      },
    },
  ).then((deps) => runHost(deps, { name, slots: 2, joinToken, drainMs: 100 }, leaving.signal));
  // Looked at by the test, later.
  ended.catch(() => {});
  return { leaving, log, ended, allocations: () => ids() };
}

async function openFolder() {
  const path = await mkdtemp(join(tmpdir(), "autocode-host-"));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true }) };
}
