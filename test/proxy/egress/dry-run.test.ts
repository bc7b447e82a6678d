/** A policy says of a request that nobody sends what it would say of the request itself. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { EgressPolicy } from "../../../orchestrator/contract/egress.ts";
import { createEgressPolicies, decideDry } from "../../../proxy/egress/dry-run.ts";

const POLICY: EgressPolicy = {
  presets: ["github-read"],
  rules: [
    { action: "deny", hosts: ["api.example.org"], methods: ["DELETE"], reason: "read it" },
    { action: "allow", hosts: ["api.example.org"], requests_per_minute: 5 },
    { action: "inject", hosts: ["forge.example"], credential: { secret: "forge/token" } },
    { action: "allow", hosts: ["10.0.0.1", "10.0.0.2"] },
    { action: "allow", hosts: ["127.0.0.1"], is_private: true },
  ],
  agents: { aider: { rules: [{ action: "passthrough", hosts: ["pinned.example"] }] } },
};

const CASES: readonly [string, string, string][] = [
  ["GET", "https://api.example.org/x?y=1", "allow rule rules[1]"],
  ["DELETE", "https://api.example.org", "deny rule rules[0]"],
  ["GET", "wss://api.example.org/live", "allow rule rules[1]"],
  ["GET", "https://api.example.org:8443/", "deny no_rule null"],
  ["GET", "https://forge.example/a", "inject rule rules[2]"],
  ["GET", "http://forge.example/a", "deny credential_failed rules[2]"],
  ["GET", "http://10.0.0.1/", "deny private_address rules[3]"],
  ["GET", "http://127.0.0.1/", "allow rule rules[4]"],
  ["GET", "http://2130706433/", "deny bad_target null"],
  ["GET", "http://u@api.example.org/", "deny bad_target null"],
  ["GET", "ftp://api.example.org/", "deny bad_target null"],
  ["GET", "https://api.example.org/a/../b", "deny bad_request null"],
  ["GET", "https://pinned.example/", "passthrough rule agents.aider.rules[0]"],
];

for (const [method, url, expected] of CASES) {
  test(`${method} ${url}: ${expected}`, () => {
    const decision = decideDry(POLICY, { method, url, agent: "aider" });
    const { action, reason, rule } = decision;
    assert.equal(`${action} ${reason} ${rule}`, expected);
    assert.ok(decision.detail.length > 10 && decision.detail.length <= 1_000);
  });
}

test("open allows, deny refuses, and warn says what it would refuse", () => {
  const url = "https://nobody.example/";
  assert.equal(decideDry("open", { url }).action, "allow");
  const denied = decideDry("deny", { url });
  assert.equal(denied.reason, "no_rule");
  assert.match(denied.detail, /^No rule allows GET nobody\.example; add one/);
  const warned = decideDry({ mode: "warn" }, { url });
  assert.deepEqual([warned.action, warned.reason], ["allow", "warned"]);
});

test("the policy in force: each rule with its place, an agent's before the project's", async () => {
  const policies = createEgressPolicies({ find: async () => ({ config: { egress: POLICY } }) });
  const { kind, mode, rules } = await policies.policy("p", "aider");
  assert.deepEqual([kind, mode], ["proxied", "enforce"]);
  const places = rules.map(({ place }) => place);
  assert.deepEqual(places.slice(0, 2), ["agents.aider.rules[0]", "rules[0]"]);
  assert.equal(places.at(-1), "preset github-read[2]");
  assert.equal((await policies.policy("p", null)).rules.length, rules.length - 1);
  assert.equal((await policies.decide("p", { url: "https://api.example.org/" })).action, "allow");
});
