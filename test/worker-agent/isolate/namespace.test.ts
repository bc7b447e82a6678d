/**
 * Goal: a namespace closes a trial's network, counts what was dropped by its destination, and
 * leaves nothing behind, whoever is killed.
 *
 * Method: the conformance suite with real namespaces and nftables, as root; then what is its own.
 */
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmdirSync } from "node:fs";
import { networkInterfaces } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { test } from "node:test";
import type { Isolation } from "../../../worker-agent/isolate/isolate.ts";
import { openNamespace } from "../../../worker-agent/isolate/namespace.ts";
import { eventually } from "../../support/eventually.ts";
import { testIsolation } from "./conformance.ts";
import { openIsolatedWorld } from "./world.ts";

const skip = process.getuid?.() !== 0 && "only root may make a network namespace";
const runAs = { uid: 3_000_042, gid: 3_000_042 };
const options = { open: openNamespace, runAs };

testIsolation("namespace", { ...options, skip });
testIsolation("namespace, with no user of its own", { ...options, runAs: null, skip });

const tables = () => execFileSync("nft", ["list", "tables"], { encoding: "utf8" });
const hostOf = ({ proxyUrl }: Isolation) => new URL(proxyUrl).hostname;
const linkOf = (isolation: Isolation) =>
  Object.entries(networkInterfaces()).find(([, ends = []]) =>
    ends.some(({ address }) => address === hostOf(isolation)),
  )?.[0] ?? "";

test("namespace: what is dropped is counted by its destination", { skip }, async () => {
  const world = await openIsolatedWorld(options);
  {
    await using _ = world;
    await world.sh(
      [
        "for i in 1 2 3; do echo x > /dev/udp/192.0.2.7/53; done",
        "echo x > /dev/tcp/192.0.2.8/443",
        "echo x > /dev/udp/2001:db8::7/443",
        "echo x > /dev/tcp/$(echo $PROXY | cut -d/ -f3 | cut -d: -f1)/22",
      ].join("\n"),
    );
    await eventually(
      () => world.drops.length,
      (count) => count >= 4,
    );
  }
  const said = world.drops.map(({ destination, protocol, packets }) => [
    protocol,
    destination.replace(hostOf(world.isolation), "host"),
    packets,
  ]);
  assert.deepEqual(said.toSorted(), [
    ["tcp", "192.0.2.8:443", 1],
    ["tcp", "host:22", 1],
    ["udp", "192.0.2.7:53", 3],
    ["udp", "[2001:db8::7]:443", 1],
  ]);
});

for (const how of ["delete table inet", "flush table inet"]) {
  const name = `namespace: after "nft ${how}" from outside its network is off soon`;
  test(name, { skip }, async (t) => {
    await using world = await openIsolatedWorld(options);
    const link = linkOf(world.isolation);
    const mac = networkInterfaces()[link]?.[0]?.mac.replaceAll(":", "") ?? "none";
    const stop = new AbortController();
    let all = "";
    const running = world.sh("while :; do curl -s -m 1 $PROXY/asked || echo off; sleep 0.1; done", {
      stop: stop.signal,
      onOutput: (said) => {
        all = said;
      },
    });
    await eventually(
      () => all,
      (said) => said.includes("proxy /asked"),
    );
    execFileSync("nft", [...how.split(" "), `autocode_link_${mac}`]);
    const startedMs = performance.now();
    await eventually(
      () => world.losses.length,
      (count) => count === 1,
    );
    const tookMs = performance.now() - startedMs;
    t.diagnostic(`${Math.round(tookMs)} ms`);
    // Looked at each second.
    assert.ok(tookMs < 8_000, `${tookMs}`);
    assert.match(world.losses[0] ?? "", /was removed or emptied from outside; its link is down$/);
    assert.equal(readFileSync(`/sys/class/net/${link}/operstate`, "utf8").trim(), "down");
    await eventually(
      () => all,
      (said) => said.endsWith("off\n"),
    );
    stop.abort();
    await running;
  });
}

test("namespace: a link that is down keeps its table when others come", { skip }, async () => {
  await using one = await openIsolatedWorld(options);
  const link = linkOf(one.isolation);
  const mac = networkInterfaces()[link]?.[0]?.mac.replaceAll(":", "") ?? "none";
  execFileSync("ip", ["addr", "flush", "dev", link]);
  execFileSync("ip", ["link", "set", link, "down"]);
  await using _ = await openIsolatedWorld({ ...options, runAs: null });
  assert.match(tables(), new RegExp(mac));
});

test("namespace: several at once have networks of their own", { skip }, async () => {
  await using one = await openIsolatedWorld(options);
  await using two = await openIsolatedWorld({
    ...options,
    runAs: { uid: 3_000_043, gid: 3_000_043 },
  });
  assert.notEqual(hostOf(one.isolation), hostOf(two.isolation));
  const script = `curl -s -m 5 ${two.isolation.proxyUrl}/x || echo "failed $?"; curl -s $PROXY/y`;
  const { said } = await one.sh(script);
  assert.deepEqual(said.trim().split("\n"), ["failed 7", "proxy /y"]);
});

test("namespace: nothing is left of it", { skip }, async () => {
  let link: string;
  {
    await using world = await openIsolatedWorld(options);
    link = linkOf(world.isolation);
    const mac = networkInterfaces()[link]?.[0]?.mac.replaceAll(":", "") ?? "none";
    assert.match(tables(), new RegExp(mac));
    await world[Symbol.asyncDispose]();
    assert.doesNotMatch(tables(), new RegExp(mac));
  }
  assert.equal(networkInterfaces()[link], undefined);
});

test("namespace: of a killed worker-agent the next one removes what stayed", { skip }, async () => {
  const child = spawn(
    process.execPath,
    [
      "--input-type=module",
      "-e",
      `import { openNamespace } from ${JSON.stringify(join(import.meta.dirname, "../../../worker-agent/isolate/namespace.ts"))};
       import { openIsolatedWorld } from ${JSON.stringify(join(import.meta.dirname, "world.ts"))};
       const world = await openIsolatedWorld({ open: openNamespace, runAs: null });
       console.log(world.isolation.proxyUrl);
       void world.sh("echo started; sleep 600", { onOutput: () => console.log("runs") });`,
    ],
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  const lines: string[] = [];
  createInterface(child.stdout).on("line", (line) => lines.push(line));
  await eventually(
    () => lines.length,
    (count) => count >= 2,
  );
  const host = new URL(lines[0] ?? "").hostname;
  const isThere = () =>
    Object.values(networkInterfaces()).some((ends = []) =>
      ends.some(({ address }) => address === host),
    );
  assert.ok(isThere());
  const before = tables();
  child.kill("SIGKILL");
  // Its processes end with it, and the namespace with them, and the link with that.
  await eventually(isThere, (isStill) => !isStill);
  await using _ = await openIsolatedWorld(options);
  const stale = before.split("\n").filter((line) => line.includes("autocode_link_"));
  const mine = stale.filter((line) => !tables().includes(line));
  assert.ok(mine.length >= 1, `${before} is still ${tables()}`);
});

test("namespace: no variable of the program leads what is ours", { skip }, async () => {
  await using world = await openIsolatedWorld(options);
  const env = { LD_PRELOAD: `${world.rooms.home}/none.so` };
  const { isolation } = world;
  const command = { file: "/bin/true", args: [], cwd: "/", env, runAs };
  const wrapped = isolation.wrap(command);
  assert.deepEqual(wrapped.env, {});
  const { said } = await world.sh("echo $LD_PRELOAD", { env });
  assert.match(said, /none\.so/);
});

for (const user of [runAs, null]) {
  const who = user === null ? "root" : "a user";
  test(`namespace: ${who} has devices and terminals of its own`, { skip }, async () => {
    await using world = await openIsolatedWorld({ ...options, runAs: user });
    const script = [
      "find /dev -type b; [ ! -e /dev/loop0 ] && [ ! -e /dev/kvm ] && echo no disk, no machine",
      "for name in null zero full random urandom; do [ -c /dev/$name ] || echo no $name; done",
      "echo x > /dev/null && head -c 3 /dev/urandom | wc -c; (echo to stdout > /dev/stdout) | cat",
      "echo through stdin | cat /dev/stdin; cat <(echo through fd)",
      "script -qec 'test -t 0 && tty && echo talks > /dev/tty' /dev/null < /dev/null",
      "touch /dev/new 2>/dev/null && echo changed /dev; echo x > /dev/shm/x && echo shared",
    ].join("\n");
    const said = (await world.sh(script)).said.replaceAll("\r", "").trim().split("\n");
    assert.deepEqual(said, [
      ...["no disk, no machine", "3", "to stdout", "through stdin", "through fd"],
      ...["/dev/pts/0", "talks", "shared"],
    ]);
    const inTerminal =
      "echo to the terminal > /dev/tty; stty size; ls /dev/pts; node -p 'String(process.stdin.isTTY)'";
    const { said: shown } = await world.sh(inTerminal, { terminal: true });
    assert.deepEqual(shown.trim().split("\n"), ["to the terminal", "30 100", "ptmx", "true"]);
  });
}

test("namespace: root changes nothing of the host's, and reads no passwords", {
  skip,
}, async (t) => {
  // A file system of its own, whose folder's name has to be told as a number.
  const folder = mkdtempSync(join("/opt", "autocode test 6"));
  execFileSync("mount", ["-t", "tmpfs", "tmpfs", folder]);
  t.after(() => {
    execFileSync("umount", [folder]);
    rmdirSync(folder);
  });
  await using world = await openIsolatedWorld({ ...options, runAs: null });
  const script = [
    `[ -d '${folder}' ] && ! touch '${folder}/x' 2>/dev/null && echo another file system`,
    "[ -e /sys/kernel ] && echo there",
    "find /sys /proc/sys /proc/irq -maxdepth 3 -writable 2>/dev/null | head -3",
    "cat /etc/shadow /etc/gshadow 2>&1 | grep -v 'Permission denied'",
    "cut -d' ' -f5 /proc/self/mountinfo | grep -v -e ^/dev -e ^/proc -e shadow | sort -u | while read -r at",
    'do [ -w "$at" ] && echo $at; done',
    "echo mine > $HOME/kept && echo mine > /tmp/mine && echo own",
  ].join("\n");
  const { said } = await world.sh(script, { env: { at: "its own" } });
  const { home, tmp, logs } = world.rooms;
  assert.deepEqual(said.trim().split("\n").toSorted(), [
    ...["another file system", "there", "own", "/tmp", "/var/tmp", home, tmp, logs].toSorted(),
  ]);
});

test("namespace: it is made in a moment", { skip }, async (t) => {
  const took: number[] = [];
  for (let round = 0; round < 5; round++) {
    const open: typeof openNamespace = async (request) => {
      const startedMs = performance.now();
      const isolation = await openNamespace(request);
      took.push(Math.round(performance.now() - startedMs));
      return isolation;
    };
    await using _ = await openIsolatedWorld({ ...options, open });
  }
  t.diagnostic(`ms: ${took.join(", ")}`);
  assert.ok(Math.min(...took) < 2_000, `${took.join(", ")} ms`);
});
