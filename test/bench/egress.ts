/**
 * Bench P13: HTTPS through the egress proxies on connections that stay: ours with the guard's
 * decisions and its record in the spool, beside bare mitmdump, mitmdump with its own flow dump and
 * with our addon, and beside no proxy at all, in turns, in one run. Ratios repeat; rates tell of
 * the machine.
 *
 *     npm run engines -- mitmproxy    installs the peer
 *     node test/bench/egress.ts [--json] [--rounds=3] [--seconds=2] [--connections=32]
 *       [--only=embedded,mitmdump,dump,addon]
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import { execPath } from "node:process";
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";
import { startUpstream, upstreamAuthority } from "../proxy/egress/world.ts";
import { openTestFolder } from "../support/embedded.ts";
import { eventually } from "../support/eventually.ts";
import { freePort } from "../support/free-port.ts";
import { type Measured, run } from "./egress/load.ts";
import { median, print, printBar, printTable, rounded, spreadOf } from "./gateway/figures.ts";

const { values } = parseArgs({
  options: {
    json: { type: "boolean", default: false },
    rounds: { type: "string", default: "3" },
    seconds: { type: "string", default: "2" },
    connections: { type: "string", default: "32" },
    only: { type: "string", default: "embedded,mitmdump,dump,addon" },
  },
});
const MITMDUMP = join(import.meta.dirname, "../../.engines/mitmproxy/mitmdump");
const PROXY = join(import.meta.dirname, "egress/proxy.ts");
const BODY = Buffer.alloc(1_024, "x");

await using folder = await openTestFolder();
await using upstream = await startUpstream((_, response) => {
  response.writeHead(200, { "content-length": BODY.length }).end(BODY);
});
const caFile = join(folder.path, "upstream.pem");
await writeFile(caFile, (await upstreamAuthority()).certificatePem);
const children: ChildProcess[] = [];
process.once("exit", () => {
  for (const child of children) child.kill("SIGTERM");
});
const contenders: { name: string; proxyUrl: string | null; rounds: Measured[] }[] = [
  { name: "direct", proxyUrl: null, rounds: [] },
];
const starts: readonly (readonly [only: string, name: string, start: () => Promise<string>])[] = [
  ["embedded", "embedded", () => startOurs("embedded")],
  ["mitmdump", "mitmdump", () => startMitmdump("bare", [])],
  ["dump", "mitmdump, own dump", () => startMitmdump("dump", ["-w", join(folder.path, "flows")])],
  ["addon", "mitmdump, addon", () => startOurs("addon")],
];
for (const [only, name, start] of starts) {
  if (!values.only.split(",").includes(only)) continue;
  if (only === "embedded" || existsSync(MITMDUMP)) {
    contenders.push({ name, proxyUrl: await start(), rounds: [] });
  } else if (!values.json) {
    print(`${name}  absent: npm run engines -- mitmproxy`);
  }
}

for (let round = 0; round <= Number(values.rounds); round++) {
  for (const { proxyUrl, rounds } of contenders) {
    const forMs = Number(values.seconds) * 1_000;
    const measured = await run(
      { proxyUrl, port: upstream.port },
      Number(values.connections),
      forMs,
    );
    // The first round warms up.
    if (round > 0) rounds.push(measured);
  }
}
tell();
for (const child of children) child.kill("SIGTERM");
await Promise.all(children.map((child) => child.exitCode ?? once(child, "exit")));

function tell(): void {
  const direct = contenders[0]?.rounds ?? [];
  const of = (rounds: readonly Measured[], what: keyof Measured) => rounds.map((one) => one[what]);
  const rate = (name: string) => {
    return median(of(contenders.find((one) => one.name === name)?.rounds ?? [], "perSecond"));
  };
  if (!values.json) {
    printTable(
      ["", "requests/s", "of direct", "added p50 ms", "added p99 ms", "failed"],
      contenders.map(({ name, rounds }) => [
        name,
        spreadOf(of(rounds, "perSecond")),
        String(rounded(median(of(rounds, "perSecond")) / rate("direct"))),
        String(rounded(median(of(rounds, "p50Ms")) - median(of(direct, "p50Ms")))),
        String(rounded(median(of(rounds, "p99Ms")) - median(of(direct, "p99Ms")))),
        String(of(rounds, "failed").reduce((sum, count) => sum + count, 0)),
      ]),
    );
  }
  const peers = Object.fromEntries(
    contenders.map(({ name, rounds }) => [name, rounded(median(of(rounds, "perSecond")))]),
  );
  if (!Number.isFinite(rate("mitmdump"))) return;
  const shared = { limit: 1, is: "at least" as const, peers };
  const unit = "× bare mitmdump's requests/s";
  printBar(
    { bar: "P13", value: rate("embedded") / rate("mitmdump"), unit, ...shared },
    values.json,
  );
  if (!Number.isFinite(rate("mitmdump, addon"))) return;
  printBar(
    {
      ...{ bar: "P13 addon", value: rate("mitmdump, addon") / rate("mitmdump, own dump") },
      ...{ unit: "× mitmdump with its own dump", limit: 0.85, is: "at least", peers },
    },
    values.json,
  );
}

async function startOurs(kind: "embedded" | "addon"): Promise<string> {
  const dir = join(folder.path, kind);
  await mkdir(dir);
  const args = [PROXY, kind, dir, String(upstream.port), caFile];
  const child = spawn(execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
  children.push(child);
  const [url] = await once(createInterface({ input: child.stdout }), "line");
  return url;
}

async function startMitmdump(name: string, more: readonly string[]): Promise<string> {
  const port = await freePort();
  const settings = [
    `confdir=${join(folder.path, name)}`,
    `ssl_verify_upstream_trusted_ca=${caFile}`,
  ];
  const args = ["-q", "--listen-host", "127.0.0.1", "--listen-port", String(port)];
  const set = settings.flatMap((setting) => ["--set", setting]);
  children.push(
    spawn(MITMDUMP, [...args, ...set, ...more], { stdio: ["ignore", "ignore", "inherit"] }),
  );
  await eventually(() => isListening(port), Boolean, 30_000);
  return `http://worker:pass@127.0.0.1:${port}`;
}

function isListening(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    socket.once("connect", () => resolve(true)).once("error", () => resolve(false));
    socket.once("connect", () => socket.destroy());
  });
}
