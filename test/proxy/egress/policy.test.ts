/**
 * Goal: rules mean what their words say: the first that matches decides, a deny never opens
 * anything, and a host's pattern is of that domain alone.
 *
 * Method: a golden table of decisions by one policy with layers; fast-check over policies and
 * requests against a model of a few lines.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { EgressPolicy, EgressRule } from "../../../orchestrator/contract/egress.ts";
import { matchesPath, readPath } from "../../../proxy/egress/paths.ts";
import {
  addressFault,
  compileHost,
  compilePolicy,
  matchRequest,
  matchTunnel,
  type Question,
} from "../../../proxy/egress/policy.ts";
import { PRESETS } from "../../../proxy/egress/presets.ts";
import { readHost } from "../../../proxy/egress/targets.ts";

const POLICY: EgressPolicy = {
  presets: ["github-read"],
  rules: [
    { action: "deny", hosts: ["api.example.org"], paths: ["/admin/**"], reason: "not for agents" },
    { action: "allow", hosts: ["api.example.org"], methods: ["GET"], paths: ["/v1/*", "/open/**"] },
    { action: "inject", hosts: ["*.forge.example"], credential: { secret: "forge/token" } },
    { action: "passthrough", hosts: ["pinned.example.org"] },
    { action: "allow", hosts: ["10.1.2.3"], ports: [8080], is_private: true },
    { action: "deny", hosts: ["*"], ports: [8443] },
  ],
  agents: { aider: { rules: [{ action: "allow", hosts: ["aider.example"] }] } },
};

function question(method: string, url: string): Question {
  const { hostname, port, protocol, pathname } = new URL(url);
  const host = readHost(hostname);
  const paths = readPath(pathname);
  assert.ok(host.outcome === "read" && paths.outcome === "read");
  const number = Number(port) || (protocol === "https:" ? 443 : 80);
  return { host: host.value, port: number, methods: [method], paths: paths.readings };
}

const TABLE: readonly [string, string, string | null][] = [
  ["GET", "https://api.example.org/v1/things", "rules[1] allow"],
  ["GET", "https://api.example.org/v1/things/4", null],
  ["GET", "https://api.example.org/open/a/b/c", "rules[1] allow"],
  ["POST", "https://api.example.org/v1/things", null],
  ["GET", "https://api.example.org/admin/users", "rules[0] deny"],
  ["GET", "https://api.example.org/admin%2Fusers", "rules[0] deny"],
  ["GET", "https://api.example.org//admin/users", "rules[0] deny"],
  ["GET", "https://api.example.org/v1/a%2Fb", null],
  ["GET", "https://api.example.org/open/%2561dmin", "rules[1] allow"],
  ["GET", "https://api.example.org:8443/v1/things", "rules[5] deny"],
  ["GET", "https://API.example.org/v1/things", "rules[1] allow"],
  ["GET", "https://example.org/v1/things", null],
  ["GET", "https://evil-api.example.org/v1/things", null],
  ["PUT", "https://a.b.forge.example/x", "rules[2] inject"],
  ["PUT", "https://forge.example/x", null],
  ["PUT", "https://notforge.example/x", null],
  ["GET", "https://pinned.example.org/", "rules[3] passthrough"],
  ["GET", "http://10.1.2.3:8080/", "rules[4] allow"],
  ["GET", "http://10.1.2.3/", null],
  ["GET", "https://aider.example/", "agents.aider.rules[0] allow"],
  ["GET", `https://${PRESETS["github-read"][0]?.hosts[0]}/a/b`, "preset github-read[0] allow"],
  ["POST", "https://github.com/a/b.git/git-upload-pack", "preset github-read[2] allow"],
  ["POST", "https://github.com/a/b.git/git-receive-pack", null],
  ["PUT", "https://github.com/a/b", null],
  ["GET", "https://trial.example/x", "trial rules[0] deny"],
];

test("the golden table of one policy's decisions", () => {
  const trial = { rules: [{ action: "deny" as const, hosts: ["trial.example"] }] };
  const policy = compilePolicy(POLICY, "aider", trial);
  for (const [method, url, expected] of TABLE) {
    const rule = matchRequest(policy, question(method, url));
    assert.equal(
      rule === null ? null : `${rule.place} ${rule.action}`,
      expected,
      `${method} ${url}`,
    );
  }
  const other = compilePolicy(POLICY, "codex", null);
  assert.equal(matchRequest(other, question("GET", "https://aider.example/")), null);
});

test("a tunnel is decided at once only where every request in it would be", () => {
  const policy = compilePolicy(POLICY, null, null);
  const match = (host: string, port = 443) => {
    const read = readHost(host);
    assert.equal(read.outcome, "read");
    return read.outcome === "read" ? matchTunnel(policy, { host: read.value, port }) : null;
  };
  assert.equal(match("nobody.example")?.outcome, "none");
  assert.equal(match("pinned.example.org")?.outcome, "rule");
  assert.equal(match("api.example.org")?.outcome, "request");
  assert.equal(match("api.example.org", 8443)?.outcome, "rule");
});

test("an empty policy, deny and none refuse everything; presets write nothing", () => {
  const urls = TABLE.map(([method, url]) => question(method, url));
  for (const egress of [undefined, "deny", {}] as const) {
    const policy = compilePolicy(egress, "aider", null);
    assert.ok(urls.every((asked) => matchRequest(policy, asked) === null));
  }
  for (const rules of Object.values(PRESETS)) {
    for (const { methods = ["any"], paths, hosts } of rules) {
      assert.ok(!hosts.includes("*"));
      const isRead = methods.every((method) => ["GET", "HEAD"].includes(method));
      assert.ok(isRead || (methods.length === 1 && methods[0] === "POST" && paths !== undefined));
    }
  }
});

test("a path's star stands for a part, two for anything, in time that is no exponent", () => {
  const cases: readonly [string, string, boolean][] = [
    ["/a/*", "/a/b", true],
    ["/a/*", "/a/b/c", false],
    ["/a/*", "/a/", true],
    ["/a/**", "/a/b/c", true],
    ["/a/**", "/a", false],
    ["/**/x", "/a/b/x", true],
    ["/*.json", "/a.json", true],
    ["/*.json", "/a/b.json", false],
    ["/a", "/a/", false],
    [`/${"**a".repeat(200)}b`, `/${"a".repeat(4_000)}`, false],
  ];
  for (const [pattern, path, expected] of cases) {
    assert.equal(matchesPath(pattern, path), expected, `${pattern} ${path}`.slice(0, 80));
  }
  for (const path of [
    "/a/../b",
    "/a/%2e%2e/b",
    "/a/.%2E",
    "/%252e%252e/x",
    "/a\\..\\b",
    "/a b",
    "a",
    "/a#b",
  ]) {
    assert.equal(readPath(path).outcome, "unreadable", path);
  }
});

const HOSTS = ["a.example.org", "b.example.org", "example.org", "x.a.example.org", "other.test"];
const rule: fc.Arbitrary<EgressRule> = fc.record(
  {
    action: fc.constantFrom("allow" as const, "deny" as const),
    hosts: fc.array(fc.constantFrom(...HOSTS, "*", "*.example.org", "*.test"), {
      minLength: 1,
      maxLength: 3,
    }),
    methods: fc.array(fc.constantFrom("GET", "POST", "PUT"), { minLength: 1, maxLength: 2 }),
    paths: fc.array(fc.constantFrom("/a", "/a/*", "/**", "/a/**", "/b"), {
      minLength: 1,
      maxLength: 2,
    }),
    ports: fc.array(fc.constantFrom(80, 443, 8080), { minLength: 1, maxLength: 2 }),
  },
  { requiredKeys: ["action", "hosts"] },
);
const asked = fc.record({
  host: fc.constantFrom(...HOSTS),
  method: fc.constantFrom("GET", "POST", "PUT"),
  path: fc.constantFrom("/a", "/a/b", "/a/b/c", "/b", "/"),
  port: fc.constantFrom(80, 443, 8080),
});

function ask(
  rules: readonly EgressRule[],
  one: { host: string; method: string; path: string; port: number },
) {
  const host = readHost(one.host);
  const paths = readPath(one.path);
  assert.ok(host.outcome === "read" && paths.outcome === "read");
  const policy = compilePolicy({ rules: [...rules] }, null, null);
  const { port, method } = one;
  return matchRequest(policy, { host: host.value, port, methods: [method], paths: paths.readings });
}

test("property: the first rule that would decide alone, decides", () => {
  fc.assert(
    fc.property(fc.array(rule, { maxLength: 8 }), asked, (rules, one) => {
      const first = rules.findIndex((each) => ask([each], one) !== null);
      assert.equal(ask(rules, one)?.place, first === -1 ? undefined : `rules[${first}]`);
    }),
  );
});

test("property: a deny that is added anywhere never allows more", () => {
  fc.assert(
    fc.property(fc.array(rule, { maxLength: 8 }), rule, fc.nat(), asked, (rules, more, at, one) => {
      const deny: EgressRule = { ...more, action: "deny" };
      const longer = rules.toSpliced(at % (rules.length + 1), 0, deny);
      if (ask(longer, one)?.action === "allow") assert.equal(ask(rules, one)?.action, "allow");
    }),
  );
});

test("property: a host's pattern matches no other registrable domain", () => {
  const label = fc.stringMatching(/^[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?$/);
  const domain = fc.tuple(label, fc.constantFrom("com", "org", "co.example"));
  const prefix = fc.constantFrom("", "a.", "a.b.", "www-", "x", "*.", "%2e", "com.");
  fc.assert(
    fc.property(domain, domain, prefix, fc.boolean(), ([a, tldA], [b, tldB], before, isBelow) => {
      const read = readHost(`${before}${b}.${tldB}`);
      fc.pre(a !== b && !/^[0-9]/.test(a) && read.outcome === "read");
      const name = `${a}.${tldA}`;
      const rules = [{ action: "allow" as const, hosts: [isBelow ? `*.${name}` : name] }];
      if (read.outcome !== "read") return;
      const { text } = read.value;
      if (text === name || text.endsWith(`.${name}`)) return;
      assert.equal(ask(rules, { host: text, method: "GET", path: "/", port: 443 }), null);
    }),
  );
});

test("addresses: each must be reached, and only a rule that names the host reaches private ones", () => {
  const of = (hosts: string[], isPrivate: boolean) => ({
    rule: { action: "allow" as const, hosts, is_private: isPrivate },
    hosts: hosts.flatMap((host) => compileHost(host) ?? []),
  });
  const name = { kind: "name" as const, text: "db.example.org" };
  const named = of(["db.example.org"], true);
  assert.equal(addressFault(named, name, ["10.0.0.1", "fd00::1", "93.184.215.14"]), null);
  assert.equal(addressFault(of(["*"], true), name, ["10.0.0.1"])?.address, "10.0.0.1");
  assert.equal(
    addressFault(of(["db.example.org"], false), name, ["93.184.215.14", "10.0.0.1"])?.address,
    "10.0.0.1",
  );
  assert.match(addressFault(named, name, ["169.254.169.254"])?.fault ?? "", /metadata/);
});
