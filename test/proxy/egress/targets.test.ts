/**
 * Goal: no writing of a host that some reader takes for an address that must not be reached gets
 * anywhere, and whoever reads a host reads the same one (S1).
 *
 * Method: a corpus of over 500 rows, made from every refused range in every form of writing that
 * URL readers, resolvers and C libraries know, and hand-made ones, is asked of a policy that allows
 * every host, as CONNECT and as a request.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { readAuthority, readHost } from "../../../proxy/egress/targets.ts";
import { headOf, openDecisions, PUBLIC } from "./deciding.ts";

/** One or more of each refused range: first, last and in between. */
const RANGES_V4 = [
  ["0.0.0.0", "0.0.0.1", "0.255.255.255"],
  ["10.0.0.1", "10.255.255.255", "10.1.2.3"],
  ["100.64.0.1", "100.127.255.255", "100.100.100.200"],
  ["127.0.0.1", "127.255.255.254", "127.1.2.3"],
  ["169.254.169.254", "169.254.0.1", "169.254.170.2"],
  ["172.16.0.1", "172.31.255.255", "172.17.0.1"],
  ["192.0.0.192", "192.0.2.1", "192.88.99.1"],
  ["192.168.0.1", "192.168.255.255", "192.168.1.1"],
  ["198.18.0.1", "198.19.255.255", "198.51.100.7"],
  ["203.0.113.9", "224.0.0.1", "239.255.255.255"],
  ["240.0.0.1", "255.255.255.255", "168.63.129.16"],
].flat();
const RANGES_V6 = [
  ...["::1", "::", "fe80::1", "febf::1", "fc00::1", "fdff::1", "fd00:ec2::254", "ff02::1"],
  ...["64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::", "2001:db8::1"],
  ...["::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:7f00:1", "::127.0.0.1"],
  ...["0:0:0:0:0:0:0:1", "0:0:0:0:0:ffff:7f00:1", "2001::1", "fec0::1", "100::1", "3fff::1"],
];

function formsOfV4(address: string): string[] {
  const parts = address.split(".").map(Number) as [number, number, number, number];
  const whole = ((parts[0] << 24) | (parts[1] << 16) | (parts[2] << 8) | parts[3]) >>> 0;
  const hex = (n: number) => `0x${n.toString(16)}`;
  const octal = (n: number) => `0${n.toString(8)}`;
  return [
    address,
    `${address}.`,
    `[${address}]`,
    String(whole),
    hex(whole),
    octal(whole),
    parts.map(hex).join("."),
    parts.map(octal).join("."),
    parts.map((part) => `00${octal(part)}`).join("."),
    `${parts[0]}.${(parts[1] << 16) | (parts[2] << 8) | parts[3]}`,
    `${parts[0]}.${parts[1]}.${(parts[2] << 8) | parts[3]}`,
    `${hex(parts[0])}.${parts[1]}.${octal(parts[2])}.${parts[3]}`,
    `user@${address}`,
    address.replaceAll(".", "%2e"),
    address.replace(/\d/g, (digit) => String.fromCodePoint(0xff10 + Number(digit))),
    address.replaceAll(".", "。"),
    `${address}\0.example.org`,
    `[::ffff:${address}]`,
    `[64:ff9b::${address}]`,
  ];
}

const HAND_MADE = [
  ...["localhost", "LOCALHOST", "localhost.", "LocalHost.", "foo.localhost"],
  ...["127.1", "127.0.1", "0", "0.", "0x7f.1", "0177.1", "00000177.0.0.1", "127.0.0.1.."],
  ...["a@b", "user:pass@localhost", "example.org@127.0.0.1", "127.0.0.1@example.org"],
  ...["example.org\0", "\0", "exa\0mple.org", "example.org%00.evil.example", "%6c%6f%63%61%6c"],
  ...[
    "",
    ".",
    "..",
    ".example.org",
    "example..org",
    "-example.org",
    "example-.org",
    "ex ample.org",
  ],
  ...["example.org/", "example.org\\@127.0.0.1", "example.org#", "example.org?", "exa\tmple.org"],
  ...[
    "аpple.example",
    "еxample.org",
    "ⓔxample.org",
    "example。org",
    "exämple.org",
    "ＥＸＡＭＰＬＥ.org",
  ],
  ...["xn--a", "xn--.org", "xn--a-ecp.ru.xn--", "xn--ls8h=.la", "xn--0.pt"],
  ...[
    `${"a".repeat(300)}.org`,
    `${"a".repeat(64)}.org`,
    `${"a.".repeat(200)}org`,
    "a".repeat(9_999),
  ],
  ...[
    "[",
    "]",
    "[]",
    "[::1",
    "::1]",
    "[::1%25lo]",
    "[::1]]",
    "[v1.x]",
    "[::g]",
    "1:2:3",
    "::ffff:0:",
  ],
  ...["\u202eexample.org", "\ufeffexample.org", "example\u00ad.org", "example.org\r\nHost: x"],
];

const CORPUS = [
  ...RANGES_V4.flatMap(formsOfV4),
  ...RANGES_V6.flatMap((address) => [address, `[${address}]`, `[${address.toUpperCase()}]`]),
  ...HAND_MADE,
];

/** What the machine's own resolver might say of names that are no addresses. */
const LOCAL = { localhost: [["127.0.0.1", "::1"]], "foo.localhost": [["::1"]] };
/** Every name, and this host itself, but not as a private one. */
const everything = (host: string) => ({
  rules: [{ action: "allow" as const, hosts: ["*", host] }],
});

test("S1: no form of an address that must not be reached is reached", async (t) => {
  assert.ok(CORPUS.length >= 500, `${CORPUS.length} rows`);
  t.diagnostic(`${CORPUS.length} rows`);
  const reasons = new Set<string>();
  for (const host of CORPUS) {
    const session = openDecisions({ egress: everything(host), names: LOCAL });
    const tunnel = await session.connect({ host, port: 443 });
    const request = await session.request({
      ...headOf("http://example.org/"),
      target: { host, port: 80 },
      authority: host,
    });
    assert.equal(tunnel.outcome, "refuse", `CONNECT ${JSON.stringify(host)}`);
    assert.equal(request.outcome, "refuse", `GET ${JSON.stringify(host)}`);
    assert.ok(tunnel.outcome === "refuse" && tunnel.refusal.body.includes("egress_refused"));
    // Of nothing that cannot be read, or is an address already, anybody is asked.
    assert.deepEqual(
      session.asked.filter((name) => !name.endsWith("localhost")),
      [],
    );
    reasons.add(tunnel.decision.reason);
  }
  assert.deepEqual([...reasons].sort(), ["bad_target", "private_address"]);
});

test("S1: named with is_private, an address is reached, and no other form of it", async () => {
  const rule = { action: "allow" as const, hosts: ["127.0.0.1"], is_private: true };
  for (const host of formsOfV4("127.0.0.1")) {
    const session = openDecisions({ egress: { rules: [rule] } });
    const { outcome } = await session.connect({ host, port: 443 });
    const isIt = host === "127.0.0.1" || host === "127.0.0.1.";
    assert.equal(outcome, isIt ? "open" : "refuse", JSON.stringify(host));
  }
});

test("S1: the platform's own addresses are refused even when a rule names them", async () => {
  const own = [
    "127.0.0.1:8080",
    "http://127.0.0.1:9090",
    "postgres://u:p@db.internal/x",
    "0.0.0.0:1",
  ];
  const names = { "db.internal": [["10.0.0.5"]], "alias.example.org": [["10.0.0.5"]] };
  const hosts = ["127.0.0.1", "127.0.0.2", "10.0.0.5", "db.internal", "*.example.org", "[::1]"];
  const ports = [1, 80, 443, 5432, 8080, 9090];
  const egress = { rules: [{ action: "allow" as const, hosts, ports, is_private: true }] };
  const refused = [
    ["127.0.0.1", 8080],
    ["127.0.0.1", 9090],
    ["10.0.0.5", 5432],
    ["db.internal", 5432],
    ["alias.example.org", 5432],
    ["127.0.0.2", 1],
    ["[::1]", 1],
  ] as const;
  for (const [host, port] of refused) {
    const decided = await openDecisions({ egress, own, names }).connect({ host, port });
    assert.equal(decided.decision.reason, "private_address", `${host}:${port}`);
    assert.match(decided.decision.detail, /platform's own/);
  }
  const other = await openDecisions({ egress, own, names }).connect({
    host: "127.0.0.1",
    port: 443,
  });
  assert.equal(other.outcome, "open");
});

test("a host is read in one way, or refused with why", () => {
  const read = (host: string) => {
    const reading = readHost(host);
    return reading.outcome === "read" ? `${reading.value.kind} ${reading.value.text}` : "refused";
  };
  assert.equal(read("EXAMPLE.Org."), "name example.org");
  assert.equal(read("xn--bcher-kva.example"), "name xn--bcher-kva.example");
  assert.equal(read("a_b.example.org"), "name a_b.example.org");
  assert.equal(read("[2606:4700:0:0::1111]"), "address 2606:4700::1111");
  assert.equal(read(PUBLIC), `address ${PUBLIC}`);
  for (const authority of ["a:b", "a:0", "a:65536", "a:443:1", "u@a", "[::1]x", ":80"]) {
    assert.equal(readAuthority(authority, 443).outcome, "unreadable", authority);
  }
});
