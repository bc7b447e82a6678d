/**
 * Goal: from inside of a trial's network nothing gets out but what the policy allows, whatever is
 * tried, and each try is found afterwards: as a packet that was dropped, or as a flow's record.
 *
 * Method: the list in `egress-attacks.ts`, run in a real namespace and a real sandbox against the
 * embedded proxy with the guard's decisions. The host would forward for them, and a collector sits
 * outside: it must have seen nothing. A control shows that it sees what no guard stops.
 */
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { once } from "node:events";
import { copyFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { networkInterfaces } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { systemClock } from "../../orchestrator/runtime/clock.ts";
import { openEmbeddedProxy } from "../../proxy/egress/embedded.ts";
import { openNamespace } from "../../worker-agent/isolate/namespace.ts";
import { openSandbox } from "../../worker-agent/isolate/sandbox.ts";
import {
  ids,
  log,
  type OpenEngine,
  openWorld,
  startUpstream,
  type World,
} from "../proxy/egress/world.ts";
import { eventually } from "../support/eventually.ts";
import { openOutside, whyNoOutside } from "../support/outside.ts";
import { type IsolatedWorld, openIsolatedWorld } from "../worker-agent/isolate/world.ts";
import { type Attack, NETWORK, PROXY, WALLS } from "./egress-attacks.ts";

const OUTSIDE = 91;
const skip = (await whyNoOutside()) ?? false;
const openEngine: OpenEngine = ({ guard, sink, authority, extraCa }) =>
  openEmbeddedProxy(
    { guard, sink, authority, ids, clock: systemClock, log },
    { host: "127.0.0.1", port: 0, extraCa, headTimeoutMs: 3_000 },
  );
/** Sends its arguments as lines, then prints what comes back. */
const RAW = `
const { connect } = require("net");
const { hostname: host, port, username, password } = new URL(process.env.P);
const [first, ...lines] = process.argv.slice(2).map((line) =>
  line.replaceAll("$PLAIN", process.env.PLAIN).replaceAll("$TLS", process.env.TLS));
const key = Buffer.from(username + ":" + password).toString("base64");
const text = [first, "Proxy-Authorization: Basic " + key, ...lines, "", ""].join("\\r\\n");
const socket = connect({ host, port }, () => socket.write(text));
socket.pipe(process.stdout);
socket.on("error", () => {});
setTimeout(() => process.exit(), 1500);
`;

for (const [kind, open] of [
  ["namespace", openNamespace],
  ["sandbox", openSandbox],
] as const) {
  test(`a trial in a ${kind} gets nowhere but where it may`, { skip }, async (t) => {
    // Of a run that was killed.
    spawnSync("ip", ["netns", "del", `autocode-out-${OUTSIDE}`]);
    await using outside = await openOutside(OUTSIDE);
    execFileSync("ip", [
      "-n",
      `autocode-out-${OUTSIDE}`,
      "route",
      "add",
      "default",
      "via",
      `11.77.${OUTSIDE}.1`,
    ]);
    const everywhere = createServer((_, response) => response.end("the host"));
    everywhere.listen(0, "0.0.0.0");
    await once(everywhere, "listening");
    t.after(() => everywhere.close());
    await using plain = await startUpstream(
      (request, response) => {
        const isAway = request.url === "/away";
        response.writeHead(
          isAway ? 302 : 200,
          isAway ? { location: "http://denied.test:8099/" } : {},
        );
        response.end("allowed");
      },
      { isPlain: true },
    );
    await using tls = await startUpstream((_, response) => response.end("allowed"));
    await using world = await openWorld(openEngine, {
      policy: {
        rules: [
          {
            action: "allow",
            hosts: ["allowed.test"],
            ports: [plain.port, tls.port],
            is_private: true,
          },
          { action: "allow", hosts: ["rebound.test"] },
        ],
      },
      addresses: { "denied.test": [outside.address] },
    });
    const runAs = { uid: 3_000_051, gid: 3_000_051 };
    const proxyUrl = world.proxy.url;
    await using other = await openIsolatedWorld({
      open: openNamespace,
      runAs: { uid: 3_000_052, gid: 3_000_052 },
    });
    await using trial = await openIsolatedWorld({ open, runAs, proxyUrl });
    const places = placesOf(trial, world, {
      OUT: outside.address,
      OPEN: String((everywhere.address() as AddressInfo).port),
      NEAR: other.isolation.proxyUrl,
      PLAIN: String(plain.port),
      TLS: String(tls.port),
    });
    letForward([trial, other], `aco${OUTSIDE}`);
    const all = { trial, world, places, isCounted: kind === "namespace" };

    await t.test("what is allowed is reached", async () => {
      const get = "curl -sk -m 9 -x $P";
      const said = await run(
        all,
        `${get} http://allowed.test:$PLAIN/; ${get} https://allowed.test:$TLS/`,
      );
      assert.equal(said, "allowedallowed");
    });
    await tryAll(t, all, { ...NETWORK, ...PROXY });
    await t.test("what holds it cannot be taken away", async () => {
      // A sandbox's first process is bubblewrap's, of the same user, and in the sandbox as well.
      const isOurs = ([name]: [string, string]) =>
        kind === "namespace" || !name.includes("first process");
      const walls = Object.entries(WALLS).filter(isOurs);
      const lines = walls.map(([name, line]) => `(${line}) > /dev/null 2>&1 && echo 'GOT ${name}'`);
      const said = await run(all, lines.join("\n"));
      assert.deepEqual(
        said.split("\n").filter((line) => line.startsWith("GOT")),
        [],
      );
    });
    await t.test("and still holds afterwards", async () => {
      const said = await run(all, "curl -s --noproxy '*' -m 3 http://$OUT:8099/ || echo refused");
      assert.equal(said.trim(), "refused");
    });
    await t.test("outside, nothing arrived", () => assert.deepEqual(outside.arrived(), []));
    if (kind === "sandbox") return;
    await t.test("and would have, without the guard", async () => {
      const { address } = Object.values(networkInterfaces())
        .flatMap((ends = []) => ends)
        .find(({ address }) => address === places["HOST"]) ?? { address: "" };
      const mac = Object.values(networkInterfaces())
        .flatMap((ends = []) => ends)
        .find((end) => end.address === address)?.mac;
      // Its rules are passed by, not taken away: that would end the trial's network.
      const table = `autocode_link_${mac?.replaceAll(":", "")}`;
      for (const chain of ["guard"]) {
        execFileSync("nft", ["insert", "rule", "inet", table, chain, "accept"]);
      }
      await run(all, "curl -s --noproxy '*' -m 3 http://$OUT:8099/control");
      await eventually(
        () => outside.arrived().join("\n"),
        (text) => text.includes("GET /control"),
      );
    });
  });
}

interface All {
  readonly trial: IsolatedWorld;
  readonly world: World;
  readonly places: Readonly<Record<string, string>>;
  readonly isCounted: boolean;
}

async function tryAll(t: TestContext, all: All, attacks: Readonly<Record<string, Attack>>) {
  const { trial, world, places, isCounted } = all;
  for (const [name, { script, evidence }] of Object.entries(attacks)) {
    await t.test(name, async () => {
      const { drafts, strangers } = world.guard;
      const before = [drafts.length, strangers.length] as const;
      const said = await run(all, script);
      assert.doesNotMatch(said, /REACHED/);
      if (evidence === "none") return;
      if ("reasons" in evidence) {
        const reasons = () =>
          [...drafts.slice(before[0]), ...strangers.slice(before[1])].map(
            ({ decision }) => decision.reason,
          );
        const isRefused = (found: readonly string[]) =>
          found.some((reason) => evidence.reasons.includes(reason));
        await eventually(reasons, isRefused);
        return;
      }
      // Nobody sees what a network without a link does not carry.
      if (!isCounted) return;
      const wanted = Object.entries(places)
        .toSorted(([one], [two]) => two.length - one.length)
        .reduce((text, [key, value]) => text.replaceAll(`$${key}`, value), evidence.dropped)
        .replace("http://", "");
      await eventually(
        () => trial.drops.map(({ destination, protocol }) => `${protocol} ${destination}`),
        (drops) => drops.includes(`${evidence.protocol} ${wanted}`),
      );
    });
  }
}

async function run({ trial, places }: All, script: string): Promise<string> {
  return (
    await trial.sh(script, {
      env: { ...places, PATH: "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin" },
    })
  ).said;
}

function placesOf(
  { isolation, rooms }: IsolatedWorld,
  { caFile }: World,
  places: Readonly<Record<string, string>>,
): Record<string, string> {
  const raw = join(rooms.side, "raw.cjs");
  writeFileSync(raw, RAW);
  copyFileSync(caFile, join(rooms.side, "ca.pem"));
  const { host, hostname } = new URL(isolation.proxyUrl);
  const here = Object.values(networkInterfaces())
    .flatMap((ends = []) => ends)
    .find(
      ({ internal, family, address }) =>
        !internal && family === "IPv4" && !/^(10\.213|11\.77)\./.test(address),
    );
  return {
    ...places,
    RAW: raw,
    HOST: hostname,
    HERE: here?.address ?? hostname,
    P: `http://worker:pass@${host}`,
    STRANGER: `http://${host}`,
    PROXYHOST: host,
    WORKER: String(process.pid),
  };
}

/** The host would carry what comes from them, were it not for the guard. */
function letForward(worlds: readonly IsolatedWorld[], link: string): void {
  const hosts = worlds.map(({ isolation }) => new URL(isolation.proxyUrl).hostname);
  const names = Object.entries(networkInterfaces())
    .filter(([, ends = []]) => ends.some(({ address }) => hosts.includes(address)))
    .map(([name]) => name);
  for (const name of [...names, link]) {
    writeFileSync(`/proc/sys/net/ipv4/conf/${name}/forwarding`, "1");
  }
}
