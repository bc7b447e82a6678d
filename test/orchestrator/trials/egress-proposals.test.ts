/**
 * Goal: "allow this" asks a person for the narrowest rule that would have let a flow through; what
 * is approved decides from then on, and nothing else does.
 *
 * Method: proposals, approvals and rejections over a real database; the pure part by cases.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { sql } from "drizzle-orm";
import { parse } from "yaml";
import type { Decision } from "../../../orchestrator/contract/egress.ts";
import { proposeRule } from "../../../orchestrator/projects/egress-proposal.ts";
import type { ApprovalId } from "../../../orchestrator/runtime/ids.ts";
import {
  createEgressProposals,
  type ProposedFlow,
} from "../../../orchestrator/trials/egress-proposals.ts";
import { decideDry } from "../../../proxy/egress/dry-run.ts";
import { openTrialLife } from "../../support/trial-life.ts";

const DENIED: Decision = { action: "deny", reason: "no_rule", rule: null, detail: "No rule" };
const SUMMARY = { method: "GET", host: "api.example.org", port: 443, decision: DENIED };

async function openProposals() {
  const life = await openTrialLife({});
  const trialId = await life.create();
  const { db, ids, world } = life;
  const proposals = createEgressProposals({ db, ids, clock: world.clock });
  const project = await life.projects.find("p");
  const flow = (host: string, method = "GET"): ProposedFlow => ({
    ...{ id: ids.next("flow"), project_id: project.id, trial_id: trialId, decision: DENIED },
    server: {
      ...{ host, port: 443, address: null, server_name: host },
      ...{ tls_version: null, http_version: null, certificate_sha256: null },
    },
    request: {
      ...{ method, scheme: "https", path: "/v1", query: null, byte_count: 0 },
      ...{ headers: null, body: null },
    },
  });
  const decide = async (url: string, method = "GET") => {
    const { config } = await life.projects.find("p");
    return decideDry(config.egress, { url, method }).action;
  };
  return { ...life, trialId, proposals, flow, decide };
}

test("approved, the rule stands in the policy; a repeat changes nothing", async () => {
  await using life = await openProposals();
  const { approvals, proposals, flow, decide } = life;
  const dry = await proposals.propose(flow("api.example.org"), { isDryRun: true });
  assert.equal(dry.approval_id, null);
  assert.equal((await approvals.list({})).length, 0);

  const asked = await proposals.propose(flow("api.example.org"), { isDryRun: false });
  assert.deepEqual(asked.rule, {
    action: "allow",
    hosts: ["api.example.org"],
    methods: ["GET", "HEAD"],
  });
  const again = await proposals.propose(flow("api.example.org"), { isDryRun: false });
  assert.equal(again.approval_id, asked.approval_id);
  const id = asked.approval_id as ApprovalId;
  const { kind, facts, egress, content_sha256 } = await approvals.get(id);
  assert.equal(kind, "egress_rule");
  assert.equal(facts, null);
  assert.match(egress?.note ?? "", /project apply` takes them back/);
  assert.deepEqual(parse(egress?.yaml ?? ""), { egress: { rules: [asked.rule] } });
  assert.equal((await life.trials.get(life.trialId)).approval_id, null);

  assert.equal(await decide("https://api.example.org/x"), "deny");
  for (let repeat = 0; repeat < 2; repeat++) {
    assert.equal((await approvals.approve(id, { content_sha256 })).state, "granted");
  }
  assert.equal(await decide("https://api.example.org/x"), "allow");
  assert.equal(await decide("https://api.example.org/x", "POST"), "deny");
  const { config } = await life.projects.find("p");
  assert.ok(typeof config.egress === "object" && config.egress.rules?.length === 1);
  await assert.rejects(approvals.reject(id, { content_sha256, reason: "no" }), {
    code: "conflict",
  });
});

test("a second rule of a trial takes the first one's place, with both", async () => {
  await using life = await openProposals();
  const { approvals, proposals, flow, decide } = life;
  const first = await proposals.propose(flow("a.example.org"), { isDryRun: false });
  const one = await approvals.get(first.approval_id as ApprovalId);
  const second = await proposals.propose(flow("b.example.org", "POST"), { isDryRun: false });
  const stale = { content_sha256: one.content_sha256 };
  await assert.rejects(approvals.approve(one.id as ApprovalId, stale), { code: "conflict" });
  const both = await approvals.get(second.approval_id as ApprovalId);
  assert.equal(both.egress?.rules.length, 2);
  await assert.rejects(approvals.approve(both.id as ApprovalId, stale), {
    code: "conflict",
    message: /^content_sha256/,
  });
  assert.equal(await decide("https://a.example.org/"), "deny");
  const answer = { content_sha256: both.content_sha256 };
  await approvals.approve(both.id as ApprovalId, answer);
  assert.equal(await decide("https://a.example.org/"), "allow");
  assert.equal(await decide("https://b.example.org/", "POST"), "allow");
});

test("rejected, nothing changes, and the trial goes on", async () => {
  await using life = await openProposals();
  const { approvals, proposals, flow, decide } = life;
  const { approval_id } = await proposals.propose(flow("a.example.org"), { isDryRun: false });
  const id = approval_id as ApprovalId;
  const { content_sha256 } = await approvals.get(id);
  const amount = approvals.approve(id, { content_sha256, amount_nanos: "1" });
  await assert.rejects(amount, { code: "invalid_request" });
  const { state } = await approvals.reject(id, { content_sha256, reason: "not for agents" });
  assert.equal(state, "rejected");
  assert.equal(await decide("https://a.example.org/"), "deny");
  assert.equal((await life.trials.get(life.trialId)).state, "queued");
});

test("what no rule would let through, or is nobody's, is a conflict", async () => {
  await using life = await openProposals();
  const { proposals, flow } = life;
  const nobodys = proposals.propose({ ...flow("x.example"), trial_id: null }, { isDryRun: false });
  await assert.rejects(nobodys, { code: "conflict", message: /belongs to no trial/ });
  const decision = { ...DENIED, reason: "canary" as const };
  const canary = proposals.propose({ ...flow("x.example"), decision }, { isDryRun: false });
  await assert.rejects(canary, { code: "conflict", message: /canary/ });
  await life.db.sql.execute(sql`update project set config = config || '{"egress":"open"}'`);
  const open = proposals.propose(flow("x.example"), { isDryRun: true });
  await assert.rejects(open, { code: "conflict", message: /is open/ });
});

test("the rule is the narrowest, and stands where what denies comes first", () => {
  const rule = (more: object, egress = {}) => {
    const proposal = proposeRule(egress, { ...SUMMARY, ...more });
    assert.ok(proposal.outcome === "proposed", JSON.stringify(proposal));
    return proposal;
  };
  assert.deepEqual(rule({ method: null }).rule.methods, ["GET", "HEAD"]);
  assert.deepEqual(rule({ method: "POST", port: 8443 }).rule, {
    ...{ action: "allow", hosts: ["api.example.org"], methods: ["POST"], ports: [8443] },
  });
  const inside = { decision: { ...DENIED, reason: "private_address", rule: "rules[1]" } };
  const egress = {
    rules: [
      { action: "deny" as const, hosts: ["api.example.org"], paths: ["/admin/**"] },
      { action: "allow" as const, hosts: ["*"] },
    ],
  };
  const { rule: added, diff } = rule(inside, egress);
  assert.equal(added.is_private, true);
  assert.equal(
    diff,
    [
      "--- autocode.yaml",
      "+++ autocode.yaml",
      "@@ -5,6 +5,13 @@",
      "         - api.example.org",
      "       paths:",
      "         - /admin/**",
      "+    - action: allow",
      "+      hosts:",
      "+        - api.example.org",
      "+      methods:",
      "+        - GET",
      "+        - HEAD",
      "+      is_private: true",
      "     - action: allow",
      "       hosts:",
      '         - "*"',
      "",
    ].join("\n"),
  );
  const key = { decision: { ...DENIED, reason: "foreign_credential" } };
  assert.equal(rule(key).rule.allows_credentials, true);
  for (const reason of ["rule", "too_large", "name_mismatch", "gateway"]) {
    const none = proposeRule({}, { ...SUMMARY, decision: { ...DENIED, reason } as Decision });
    assert.equal(none.outcome, "none");
  }
  const trials = { ...DENIED, rule: "trial rules[0]" };
  assert.equal(proposeRule({}, { ...SUMMARY, decision: trials }).outcome, "none");
});

test("a trial's own file is checked by line, and kept with it", async () => {
  await using life = await openProposals();
  const cell = { project: "p", agent: "aider", pair: "any", task: "task" };
  const file_name = "egress.yaml";
  const file_text = "presets: [npm]\nrules:\n  - action: allow\n    hosts: [x.example]\n";
  const { id } = await life.trials.create({ ...cell, egress: { file_name, file_text } });
  const kept = await life.db.sql.execute(sql`select egress from trial where id = ${id}`);
  assert.deepEqual(kept.rows[0], { egress: parse(file_text) });
  const wrong = { file_name, file_text: `${file_text}    is_privat: true\n` };
  await assert.rejects(life.trials.create({ ...cell, egress: wrong }), {
    code: "invalid_request",
    message: /^egress\.yaml:5: rules\.0\.is_privat: unknown key; known here: action, hosts/,
  });
  await life.db.sql.execute(sql`update project set config = config || '{"egress":"open"}'`);
  await assert.rejects(life.trials.create({ ...cell, egress: { file_name, file_text } }), {
    code: "invalid_request",
    message: /is open/,
  });
});
