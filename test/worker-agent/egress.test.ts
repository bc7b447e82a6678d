/**
 * Goal: an allocation that is proxied has the proxy's variables, its authority and placeholders and
 * no secret of ours; it says how it is isolated and what was dropped, and fails where isolation is
 * required and cannot be had.
 *
 * Method: the worker-agent in this process with a fake CLI, against a proxy that refuses all; as
 * root the namespace is real.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { networkInterfaces } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { EgressSpec } from "../../orchestrator/contract/worker.ts";
import { openEgress, proxyVariables } from "../../worker-agent/egress.ts";
import type { OpenIsolation } from "../../worker-agent/isolate/isolate.ts";
import { openIsolation } from "../../worker-agent/open-isolation.ts";
import { makeRooms } from "../../worker-agent/rooms.ts";
import { eventually } from "../support/eventually.ts";
import { openRefusingProxy } from "../support/refusing-proxy.ts";
import { createTestAuthority } from "../support/test-authority.ts";
import { openWorkerOrchestrator } from "../support/worker-orchestrator.ts";
import {
  agentSpec,
  fakeAgent,
  makeRepository,
  openFolder,
  runInProcess,
  verifySpec,
} from "../support/worker-world.ts";

const NONE: OpenIsolation = (request) => openIsolation(request, []);
const needsRoot = process.getuid?.() !== 0 && "only root may make a network namespace";

async function proxied(proxyUrl: string, more: object = {}): Promise<EgressSpec> {
  const { cert } = await createTestAuthority();
  return {
    kind: "proxied",
    proxy_url: proxyUrl,
    username: "allocation_1",
    password: "p@ss",
    authority_pem: cert,
    is_isolation_required: false,
    is_llm_proxied: false,
    environment: { DEPLOY_TOKEN: "{{secret:deploy/token}}" },
    ...more,
  };
}

test("a proxied agent reaches the proxy and the gateway by relays, and says so", {
  skip: needsRoot,
}, async () => {
  using folder = openFolder();
  const source = makeRepository(folder.path, { "a.txt": "one\n" });
  const asked: string[] = [];
  await using proxy = await openRefusingProxy(({ host }) => asked.push(host));
  const spec = agentSpec(source.baseCommit, {
    egress: await proxied(proxy.url),
    gateway_url: `${proxy.url}/gateway`,
  });
  await using orchestrator = await openWorkerOrchestrator({ spec, bundle: source.bundle });
  const steps = [
    { sayEnv: ["DEPLOY_TOKEN", "HTTPS_PROXY", "NO_PROXY", "NODE_EXTRA_CA_CERTS"] },
    { connect: "telemetry.example.com:443" },
    { run: "curl -s --noproxy '*' -m 5 http://192.0.2.9:8080/" },
    { run: "echo two > a.txt" },
  ];
  await runInProcess(orchestrator, { folder: folder.path, agent: fakeAgent({ execute: steps }) });
  const [report] = orchestrator.reports;
  assert.ok(report?.purpose === "agent");
  assert.deepEqual([report.outcome, report.diff.files_changed], ["finished", 1]);
  const [env = "", refused] = orchestrator
    .eventsOf("agent.message")
    .map(({ text }) => String(text));
  const said = JSON.parse(env);
  const { username, password, hostname } = new URL(said.HTTPS_PROXY);
  assert.deepEqual(
    [said.DEPLOY_TOKEN, username, password, said.NO_PROXY],
    ["{{secret:deploy/token}}", "allocation_1", "p%40ss", `127.0.0.1,localhost,::1,${hostname}`],
  );
  assert.match(said.NODE_EXTRA_CA_CERTS, /side\/certificates\/authority\.pem$/);
  assert.equal(refused, "telemetry.example.com:443 403");
  assert.deepEqual(asked, ["telemetry.example.com:443"]);
  assert.deepEqual(orchestrator.eventsOf("egress.dropped"), [
    { destination: "192.0.2.9:8080", protocol: "tcp", packets: 1 },
  ]);
  assert.deepEqual(
    orchestrator.eventsOf("egress.isolation").map(({ kind }) => kind),
    ["namespace"],
  );
});

test("an agent whose firewall is removed from outside is ended, and its report says why", {
  skip: needsRoot,
}, async () => {
  using folder = openFolder();
  const source = makeRepository(folder.path, { "a.txt": "one\n" });
  await using proxy = await openRefusingProxy(() => {});
  const spec = agentSpec(source.baseCommit, { egress: await proxied(proxy.url) });
  await using orchestrator = await openWorkerOrchestrator({ spec, bundle: source.bundle });
  const steps = [
    { sayEnv: ["HTTPS_PROXY"] },
    { run: "while :; do curl -s -m 1 http://192.0.2.9/; sleep 0.1; done" },
  ];
  const agent = fakeAgent({ execute: steps });
  const running = runInProcess(orchestrator, { folder: folder.path, agent });
  const [said] = await eventually(
    () => orchestrator.eventsOf("agent.message"),
    ({ length }) => length === 1,
  );
  const { hostname } = new URL(JSON.parse(String(said?.["text"])).HTTPS_PROXY);
  const ends = Object.values(networkInterfaces()).flatMap((one = []) => one);
  const mac = ends.find(({ address }) => address === hostname)?.mac.replaceAll(":", "");
  execFileSync("nft", ["delete", "table", "inet", `autocode_link_${mac}`]);
  await running;
  const [report] = orchestrator.reports;
  assert.ok(report?.purpose === "agent");
  assert.equal(report.outcome, "killed");
  assert.match(report.detail, /autocode_link_\w+ was removed or emptied from outside/);
  assert.deepEqual(
    orchestrator.eventsOf("egress.isolation").map(({ kind }) => kind),
    ["namespace", "none"],
  );
});

test("tests are proxied and isolated as the agent was", { skip: needsRoot }, async () => {
  using folder = openFolder();
  const source = makeRepository(folder.path, { "a.txt": "one\n" });
  await using proxy = await openRefusingProxy(() => {});
  const command = 'curl -s http://example.com/ | grep -q gateway && test -z "$GATEWAY" && ls a.txt';
  const spec = verifySpec(source.baseCommit, {
    egress: await proxied(proxy.url),
    test: { kind: "command", command },
  });
  await using orchestrator = await openWorkerOrchestrator({ spec, bundle: source.bundle });
  await runInProcess(orchestrator, { folder: folder.path });
  const [report] = orchestrator.reports;
  assert.deepEqual(report?.purpose === "verify" && report.verdict, "passed");
});

/** As much of a job as egress needs. */
async function jobFor(folder: string, egress: EgressSpec) {
  const events: [string, Record<string, unknown>][] = [];
  const job = {
    spec: agentSpec("base", { egress }),
    rooms: await makeRooms(join(folder, "allocation"), null),
    runAs: null,
    path: "",
    seclusion: { hidden: [], kept: [] },
    outbox: { emit: (type: string, data: Record<string, unknown>) => events.push([type, data]) },
  };
  return { job: job as unknown as Parameters<typeof openEgress>[0], events };
}

test("where isolation cannot be had it is advisory, and said loudly", async () => {
  using folder = openFolder();
  const { job, events } = await jobFor(folder.path, await proxied("http://10.0.0.1:8080"));
  await using egress = await openEgress(job, "http://10.0.0.2:8081", NONE);
  assert.deepEqual([egress.wrap, egress.gatewayUrl], [null, "http://10.0.0.2:8081"]);
  assert.deepEqual(
    events.map(([type, { kind, level }]) => [type, kind ?? level]),
    [
      ["egress.isolation", "none"],
      ["trial.note", "warn"],
    ],
  );
  assert.match(String(events[1]?.[1]["message"]), /^egress is advisory: /);
});

test("where isolation is required and cannot be had, nothing starts", async () => {
  using folder = openFolder();
  const egress = await proxied("http://10.0.0.1:8080", { is_isolation_required: true });
  const { job } = await jobFor(folder.path, egress);
  await assert.rejects(openEgress(job, "", NONE), {
    name: "WorkspaceFault",
    message: /requires isolation, and this worker gives none: .*require_isolation: false/,
  });
});

test("LLM calls pass the proxy where the policy says so, and past it elsewhere", () => {
  const spec = { username: "a", password: "b" };
  const places = { proxyUrl: "http://10.0.0.1:80", gatewayUrl: "http://127.0.0.1:7701" };
  const past = (isGatewayDirect: boolean) =>
    proxyVariables(spec, { ...places, isGatewayDirect })["NO_PROXY"];
  assert.deepEqual([past(true), past(false)], ["127.0.0.1,localhost,::1", "localhost,::1"]);
});

test("where no proxy runs, the gateway alone is reached", { skip: needsRoot }, async () => {
  using folder = openFolder();
  const { job, events } = await jobFor(folder.path, { kind: "closed" });
  await using egress = await openEgress(job, "http://127.0.0.1:7701/v1");
  const proxy = new URL(egress.env["HTTPS_PROXY"] ?? "");
  assert.equal(egress.env["NO_PROXY"], `127.0.0.1,localhost,::1,${proxy.hostname}`);
  assert.equal(new URL(egress.gatewayUrl).hostname, proxy.hostname);
  assert.equal(egress.env["SSL_CERT_FILE"], undefined);
  assert.equal(events[0]?.[1]["kind"], "namespace");
});
