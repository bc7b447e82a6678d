/**
 * Goal: a policy that can be read means one thing, and one that cannot is told with file, line,
 * field and what to do.
 *
 * Method: project files and layers as people write them, right and wrong.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { EgressPolicy } from "../../../orchestrator/contract/egress.ts";
import { Problem } from "../../../orchestrator/problem.ts";
import { parseEgressLayer } from "../../../orchestrator/projects/egress-rules.ts";
import { parseProjectFile } from "../../../orchestrator/projects/project-file.ts";

const HEAD = `project: demo
currency: CAD
budget: { total: 10, per_trial: 1 }
`;

const WHOLE = `egress:
  mode: warn
  presets: [npm, pypi, debian, github-read]
  rules:
    - action: allow
      hosts: [api.example.org, "*.cdn.example.org", "[2001:db8::1]", 10.1.2.3]
      methods: [GET, POST]
      paths: [/v1/*, /open/**]
      ports: [8080]
      is_private: true
      requests_per_minute: 60
    - action: inject
      hosts: [forge.example]
      credential: { secret: forge/token, header: Authorization, format: "Bearer {}" }
    - { action: passthrough, hosts: [pinned.example.org], allows_encrypted_hello: true }
    - { action: deny, hosts: ["*"], reason: nothing else }
  agents:
    aider: { presets: [npm], rules: [{ action: allow, hosts: [aider.example] }] }
  environment: { FORGE_TOKEN: "{{secret:forge/token}}", PLAIN: text }
  require_isolation: true
  require_record: true
  llm_through_proxy: true
  request_bytes_per_trial_max: 1000000
`;

test("a whole policy is read as it is written; deny and open are words", () => {
  const { egress } = parseProjectFile(`${HEAD}${WHOLE}`, "autocode.yaml");
  const policy = egress as EgressPolicy;
  assert.equal(policy.rules?.length, 4);
  assert.equal(policy.rules?.[1]?.credential?.format, "Bearer {}");
  assert.deepEqual(policy.presets, ["npm", "pypi", "debian", "github-read"]);
  for (const word of ["deny", "open"]) {
    assert.equal(parseProjectFile(`${HEAD}egress: ${word}\n`, "autocode.yaml").egress, word);
  }
});

/** Of `egress`, from its second line on (the file's fifth). */
const WRONG: readonly [string, RegExp][] = [
  ["  rulez: []", /:5: egress\.rulez: unknown key; known here: presets, rules, mode/],
  ["  presets: [cargo]", /:5: egress\.presets/],
  ["  mode: maybe", /:5: egress\.mode/],
  ["  rules:\n    - hosts: [a.example]", /:6: egress\.rules\.0: missing action/],
  ["  rules:\n    - action: permit\n      hosts: [a.example]", /:6: egress\.rules\.0\.action/],
  [
    "  rules:\n    - action: allow\n      hosts: [a.example]\n      path: [/x]",
    /:8: egress\.rules\.0\.path: unknown key; known here: action, hosts, methods, paths/,
  ],
  ["  rules:\n    - action: allow\n      hosts: []", /:7: egress\.rules\.0\.hosts/],
  ["  rules:\n    - action: allow\n      hosts: [a b]", /:7: egress\.rules\.0\.hosts\.0/],
  [
    "  rules:\n    - action: allow\n      hosts:\n        - a.example\n        - b.example:8080",
    /:9: egress\.rules\.0\.hosts\.1: has a port; write it as ports: \[8080\]/,
  ],
  ['  rules: [{ action: allow, hosts: ["127.0.1"] }]', /hosts\.0: is no address of four numbers/],
  ["  rules:\n    - { action: allow, hosts: ['*.10.0.0.1'] }", /nothing below an address/],
  ["  rules:\n    - { action: allow, hosts: [a.example], paths: [x] }", /paths\.0/],
  ["  rules:\n    - { action: inject, hosts: [a.example] }", /:6: egress\.rules\.0: inject needs/],
  [
    "  rules:\n    - { action: allow, hosts: [a.example], credential: { secret: a } }",
    /credential: is for the action inject/,
  ],
  [
    "  rules:\n    - { action: inject, hosts: ['*'], credential: { secret: a } }",
    /hosts: inject names its hosts/,
  ],
  [
    "  rules:\n    - { action: inject, hosts: [a.example], credential: { secret: A/../b } }",
    /credential\.secret: must be the path of a secret, such as "forge\/github\/token"/,
  ],
  [
    "  rules:\n    - { action: inject, hosts: [a.example], credential: { secret: a, format: '{}' } }",
    /format: needs a header/,
  ],
  [
    "  rules:\n    - { action: passthrough, hosts: [a.example], paths: [/x] }",
    /paths: cannot be read through TLS that is not opened/,
  ],
  [
    "  rules:\n    - { action: allow, hosts: [a.example], allows_encrypted_hello: true }",
    /allows_encrypted_hello: is for the action passthrough, and this rule says allow/,
  ],
  [
    "  rules:\n    - { action: allow, hosts: ['*'], is_private: true }",
    /is_private: needs hosts that are named/,
  ],
  ["  environment: { PATH: x }", /environment\.PATH: is the worker's own to set/],
  ["  environment: { HTTPS_PROXY: x }", /environment\.HTTPS_PROXY/],
  ["  environment: { A: '{{secret:forge/token}}' }", /no rule injects "forge\/token"/],
  ["  environment: { A: '{{forge}}' }", /"\{\{forge\}\}" is no placeholder/],
  ["  environment: { A: '{{secret:forge' }", /placeholder that is not closed/],
  ["  agents: { aider: { rules: [{ action: inject, hosts: [a] }] } }", /agents\.aider\.rules\.0/],
];

for (const [text, message] of WRONG) {
  test(`refused: ${text.trim().replaceAll(/\s+/g, " ")}`, () => {
    assert.throws(
      () => parseProjectFile(`${HEAD}egress:\n${text}\n`, "autocode.yaml"),
      (error) => {
        assert.ok(error instanceof Problem && error.code === "invalid_request");
        assert.match(error.message, message);
        return /^autocode\.yaml:\d+: egress/.test(error.message);
      },
    );
  });
}

test("a layer's file has rules and presets, and nothing of the project's", () => {
  const text = '{ "presets": ["npm"], "rules": [{ "action": "deny", "hosts": ["*"] }] }';
  assert.equal(parseEgressLayer(text, "x.json").rules?.length, 1);
  for (const [wrong, message] of [
    ["mode: warn", /^x\.yaml:1: mode: unknown key; known here: presets, rules/],
    ["rules:\n- { action: inject, hosts: [a] }", /^x\.yaml:2: rules\.0: inject needs/],
    ["rules: [", /^x\.yaml:\d: /],
    ["- 1", /^x\.yaml:1: the file/],
  ] as const) {
    assert.throws(() => parseEgressLayer(wrong, "x.yaml"), { code: "invalid_request", message });
  }
});
