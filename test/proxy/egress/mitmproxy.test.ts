/**
 * Goal: mitmproxy with our addon does what every engine does; what it does beyond them, transparent
 * mode among it, and what happens when it dies.
 *
 * Method: the engines' suite; then processes that are killed and programs that are none; then a
 * network namespace whose connections the test's own firewall table leads to the proxy.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { readdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { systemClock } from "../../../orchestrator/runtime/clock.ts";
import { type Mitmproxy, openMitmproxy } from "../../../proxy/egress/mitmproxy.ts";
import { openTestFolder } from "../../support/embedded.ts";
import { eventually } from "../../support/eventually.ts";
import { ROOT, runToEnd } from "../../support/installation.ts";
import { curl, openTls } from "./clients.ts";
import { testEgressProxy } from "./conformance.ts";
import { type EngineParts, ids, log, type OpenEngine, openWorld, startUpstream } from "./world.ts";

const MITMDUMP = join(ROOT, ".engines/mitmproxy/mitmdump");
const isRequired = process.env["AUTOCODE_REQUIRE_ENGINES"] === "all";
const skip =
  existsSync(MITMDUMP) || isRequired
    ? false
    : "mitmproxy is not installed: npm run engines mitmproxy";

function depsOf({ guard, sink, authority }: EngineParts) {
  return { guard, sink, authority, ids, clock: systemClock, log };
}

function optionsOf({ extraCa, folder, idleTimeoutMs }: EngineParts) {
  return {
    ...{ mitmdump: MITMDUMP, host: "127.0.0.1", port: 0, mode: "regular" as const, extraCa },
    dir: join(folder, "mitmproxy"),
    ...(idleTimeoutMs === undefined ? {} : { idleTimeoutMs }),
  };
}

const open: OpenEngine = (parts) => openMitmproxy(depsOf(parts), optionsOf(parts));

function allow(port: number) {
  const hosts = ["api.test"];
  return {
    policy: { rules: [{ action: "allow" as const, hosts, ports: [port], is_private: true }] },
  };
}

if (skip === false) testEgressProxy("mitmproxy", open);
else test("mitmproxy does what every engine does", { skip }, () => undefined);

test("mitmproxy killed in the middle of a flow: the worker sees it, it is recorded, it comes back", {
  skip,
}, async () => {
  await using server = await startUpstream((_, response) => response.write("first"));
  await using world = await openWorld(open, allow(server.port));
  const proxy = world.proxy as Mitmproxy;
  const socket = await openTls(world, `api.test:${server.port}`);
  socket.write(`GET / HTTP/1.1\r\nHost: api.test:${server.port}\r\n\r\n`);
  await once(socket, "data");
  const pid = proxy.pid();
  assert.ok(pid !== null);
  process.kill(pid, "SIGKILL");
  await once(socket, "close");
  const [draft] = await eventually(
    () => world.guard.drafts,
    (drafts) => drafts.length > 0,
  );
  assert.equal(draft?.error, "mitmproxy ended before the answer did");
  await eventually(proxy.fault, (fault) => /ended with SIGKILL/.test(fault ?? ""));
  await eventually(proxy.fault, (fault) => fault === null, 30_000);
  assert.notEqual(proxy.pid(), pid);
  const ran = await curl(world, "--max-time", "1", `https://api.test:${server.port}/`);
  assert.equal(ran.stdout, "first", "on the port that workers know");
});

test("mitmproxy's end of the bridge gone: it ends, and lets nothing through", {
  skip,
}, async () => {
  await using folder = await openTestFolder();
  const path = join(folder.path, "absent.sock");
  const addon = join(ROOT, "proxy/egress/addon.py");
  const settings = [`confdir=${folder.path}`, `autocode_bridge=${path}`];
  const ended = await runToEnd(MITMDUMP, [
    ...["-q", "-s", addon, "--mode", "regular@127.0.0.1:0"],
    ...settings.flatMap((setting) => ["--set", setting]),
  ]);
  assert.equal(ended.exit, 3);
  assert.match(ended.err, /the bridge does not answer/);
});

test("no secret is in mitmproxy's arguments, its environment or its folder", { skip }, async () => {
  let key = "";
  const openIt: OpenEngine = (parts) => {
    key = parts.authority.keyPem.split("\n")[1] ?? "";
    return open(parts);
  };
  await using world = await openWorld(openIt, allow(1));
  const pid = (world.proxy as Mitmproxy).pid();
  const folder = join(world.folder, "mitmproxy");
  assert.equal((await stat(folder)).mode & 0o777, 0o700);
  const files = await readdir(folder, { recursive: true, withFileTypes: true });
  const texts = await Promise.all(
    [
      ...files.filter((file) => file.isFile()).map((file) => join(file.parentPath, file.name)),
      ...(process.platform === "linux" ? [`/proc/${pid}/cmdline`, `/proc/${pid}/environ`] : []),
    ].map((file) => readFile(file, "latin1")),
  );
  assert.ok(key.length > 20 && texts.length > 3);
  for (const text of texts) assert.ok(!text.includes(key) && !text.includes("worker:pass"));
});

test("where mitmdump is not, or does not start, its own words and the next step are told", {
  skip,
}, async () => {
  await assert.rejects(openWith("/nonexistent/mitmdump"), {
    code: "unavailable",
    message: /ENOENT.*npm run engines mitmproxy/s,
  });
  await using folder = await openTestFolder();
  const file = join(folder.path, "mitmdump");
  await writeFile(file, "#!/bin/sh\necho 'no such option: --mode' >&2\nexit 2\n", { mode: 0o755 });
  await assert.rejects(openWith(file), { message: /ended with 2: no such option: --mode/ });
});

async function openWith(mitmdump: string): Promise<void> {
  const openIt: OpenEngine = (parts) =>
    openMitmproxy(depsOf(parts), { ...optionsOf(parts), mitmdump });
  await using _ = await openWorld(openIt, allow(1));
}

const noNamespace =
  skip ||
  (process.getuid?.() !== 0 && "only root makes network namespaces") ||
  (["ip", "nft"].every((tool) => existsSync(`/usr/sbin/${tool}`))
    ? false
    : "there is no ip, or no nft");

test("transparent mode: a client that knows of no proxy, by HTTP/2, passed through, and refused", {
  skip: noNamespace,
}, async () => {
  await using server = await startUpstream((request, response) => {
    response.end(`${request.headers.host} ${request.url}`);
  });
  const { port } = server;
  await using net = await openNamespace(port);
  const shared = { ports: [port], is_private: true };
  const rules = [
    { action: "allow" as const, hosts: ["api.test"], ...shared },
    { action: "passthrough" as const, hosts: ["pinned.test"], ...shared },
  ];
  const openIt: OpenEngine = async (parts) => {
    const proxy = await openMitmproxy(depsOf(parts), {
      ...optionsOf(parts),
      ...{ host: net.host, mode: "transparent" },
      sessionByAddress: async (address) =>
        address === net.worker ? parts.guard.session("worker", "pass") : null,
    });
    await net.lead(proxy.transparentPort ?? 0);
    return proxy;
  };
  await using world = await openWorld(openIt, { policy: { rules } });
  const get = (name: string, authority: string) =>
    net.run("curl", [
      ...["-sS", "--max-time", "10", "--cacert", authority, "-w", " %{http_version}"],
      ...["--resolve", `${name}:${port}:${OUTSIDE}`, `https://${name}:${port}/x`],
    ]);
  const upstreamFile = join(world.folder, "upstream.pem");
  await writeFile(upstreamFile, world.upstream.certificatePem);

  const opened = await get("api.test", world.caFile);
  assert.equal(opened.out, `api.test:${port} /x 2`, opened.err);
  const passed = await get("pinned.test", upstreamFile);
  assert.equal(passed.out, `pinned.test:${port} /x 1.1`, passed.err);
  const refused = await get("other.test", world.caFile);
  assert.match(refused.out, /"code":"no_rule".* 2$/s, refused.err);
  const drafts = await eventually(
    () => world.guard.drafts,
    (all) => all.length === 3,
  );
  assert.deepEqual(
    drafts.map(({ kind, client, server: at, decision }) => [
      ...[kind, client.address, at.host, at.server_name, decision.action, decision.reason],
    ]),
    [
      ["http", net.worker, "api.test", "api.test", "allow", "rule"],
      ["tunnel", net.worker, "pinned.test", "pinned.test", "passthrough", "rule"],
      ["tunnel", net.worker, "other.test", "other.test", "deny", "no_rule"],
    ],
  );
});

/** An address of TEST-NET-3: nobody has it. */
const OUTSIDE = "203.0.113.9";

/** A namespace that reaches this machine alone, and a firewall table of the test's own. */
async function openNamespace(port: number) {
  const name = `autocode-${process.pid}`;
  const table = `autocode_${process.pid}`;
  const link = `ac${process.pid}`.slice(0, 14);
  const [host, worker] = ["10.231.77.1", "10.231.77.2"];
  await using undo = new AsyncDisposableStack();
  await must("ip", "netns", "add", name);
  undo.defer(() => must("ip", "netns", "del", name));
  await must("ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", name);
  // Its other end goes with the namespace, and it with that.
  await must("ip", "addr", "add", `${host}/30`, "dev", link);
  await must("ip", "link", "set", link, "up");
  for (const args of [
    ["link", "set", "lo", "up"],
    ["addr", "add", `${worker}/30`, "dev", "eth0"],
    ["link", "set", "eth0", "up"],
    ["route", "add", "default", "via", host],
  ]) {
    await must("ip", "-n", name, ...args);
  }
  const owned = undo.move();
  return { host, worker, lead, run, [Symbol.asyncDispose]: () => owned.disposeAsync() };

  /** Leads what goes to `port` to the proxy. */
  async function lead(proxyPort: number): Promise<void> {
    await must("nft", "add", "table", "ip", table);
    owned.defer(() => must("nft", "delete", "table", "ip", table));
    await must(
      "nft",
      `add chain ip ${table} prerouting { type nat hook prerouting priority dstnat; }`,
    );
    const match = `iifname "${link}" ip daddr != ${host} tcp dport ${port}`;
    await must("nft", `add rule ip ${table} prerouting ${match} redirect to :${proxyPort}`);
  }

  function run(file: string, args: readonly string[]) {
    const { PATH = "" } = process.env;
    return runToEnd("ip", ["netns", "exec", name, file, ...args], { env: { PATH } });
  }
}

async function must(file: string, ...args: string[]): Promise<void> {
  const { exit, err } = await runToEnd(file, args);
  assert.equal(exit, 0, `${file} ${args.join(" ")}: ${err}`);
}
