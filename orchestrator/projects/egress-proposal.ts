/**
 * "Allow this": the narrowest rule that would have let a refused flow through, and the policy with
 * it. Pure.
 */
import { isDeepStrictEqual } from "node:util";
import { stringify } from "yaml";
import type { DecisionReason, EgressPolicy, EgressRule } from "../contract/egress.ts";
import type { FlowSummary } from "../contract/flows.ts";
import type { ProjectFile } from "../contract/projects.ts";

export type Egress = ProjectFile["egress"];

export type Proposal =
  | {
      readonly outcome: "proposed";
      readonly rule: EgressRule;
      /** Of the project file's `egress`, as a unified diff. */
      readonly diff: string;
    }
  | { readonly outcome: "none"; readonly why: string };

const RULES_MAX = 500;
const CONTEXT_LINES = 3;
const WEB_PORTS = [80, 443];
const READ = ["GET", "HEAD"];

/** Why a rule is no answer, by the reason of the decision; what is not here, a rule can allow. */
const NO_RULE_WOULD: Partial<Record<DecisionReason, string>> = {
  rule: "a rule denies it on purpose; change that rule in the project's file",
  too_large: "it was larger than its rule takes; raise request_bytes_max there",
  too_fast: "it came more often than its rule takes; raise requests_per_minute there",
  too_many: "it was more at a time than one worker may have; see AUTOCODE_EGRESS_EXCHANGES",
  no_server_name:
    "its TLS hides its server's name, or has none; where its rule says passthrough, " +
    "allows_encrypted_hello there lets a hidden one through",
  canary: "it carried the trial's canary, which nothing legitimate sends",
  credential_failed: "the credential of its rule could not be read; look at: autocode secret ls",
};
const RULES_ANSWER: readonly DecisionReason[] = [
  "no_rule",
  "warned",
  "private_address",
  "foreign_credential",
];

/** @param flow as it was refused, or let through with a warning. */
export function proposeRule(
  egress: Egress,
  flow: Pick<FlowSummary, "method" | "host" | "port" | "decision">,
): Proposal {
  const { reason } = flow.decision;
  if (egress === "open") return { outcome: "none", why: "the project's egress is open" };
  const { rule: place } = flow.decision;
  if (place !== null && /^(trial|agents)\b/.test(place)) {
    return { outcome: "none", why: `${place} decided it, which comes before the project's rules` };
  }
  if (!RULES_ANSWER.includes(reason)) {
    const why = NO_RULE_WOULD[reason] ?? `its reason is "${reason}", which no rule changes`;
    return { outcome: "none", why };
  }
  const rule = ruleFor(flow);
  const after = addRules(egress, [rule]);
  if (after.outcome === "none") return after;
  return { outcome: "proposed", rule, diff: diffOf(egress, after.egress) };
}

function ruleFor({
  method,
  host,
  port,
  decision,
}: Pick<FlowSummary, "method" | "host" | "port" | "decision">): EgressRule {
  // Of a tunnel that was refused nobody knows what would have been asked: reading is the least.
  const methods = method === null || READ.includes(method) ? READ : [method];
  return {
    action: "allow",
    hosts: [host.includes(":") ? `[${host}]` : host],
    ...(method === "CONNECT" ? { methods: READ } : { methods: [...methods] }),
    ...(WEB_PORTS.includes(port) ? {} : { ports: [port] }),
    ...(decision.reason === "private_address" ? { is_private: true } : {}),
    ...(decision.reason === "foreign_credential" ? { allows_credentials: true } : {}),
  };
}

/**
 * The policy with these rules among the project's own: last, or before the rule that lets the same
 * host through with less. What denies before that still does. A rule that is there is not added.
 */
export function addRules(
  egress: Egress,
  rules: readonly EgressRule[],
):
  | { readonly outcome: "added"; readonly egress: EgressPolicy }
  | { readonly outcome: "none"; readonly why: string } {
  if (egress === "open") return { outcome: "none", why: "the project's egress is open" };
  const policy: EgressPolicy = egress === undefined || egress === "deny" ? {} : egress;
  const added = rules.filter(
    (rule) => !policy.rules?.some((known) => isDeepStrictEqual(known, rule)),
  );
  let all: readonly EgressRule[] = policy.rules ?? [];
  for (const rule of added) all = all.toSpliced(positionOf(rule, all), 0, rule);
  if (all.length > RULES_MAX) {
    return { outcome: "none", why: `the policy has its ${RULES_MAX} rules already` };
  }
  return { outcome: "added", egress: { ...policy, rules: [...all] } };
}

function positionOf(rule: EgressRule, all: readonly EgressRule[]): number {
  const isMore = rule.is_private === true || rule.allows_credentials === true;
  const [host = ""] = rule.hosts;
  const same = (pattern: string) =>
    pattern === "*" ||
    pattern.toLowerCase() === host ||
    (pattern.startsWith("*.") && host.endsWith(pattern.slice(1).toLowerCase()));
  const found = all.findIndex(({ action, hosts }) => action !== "deny" && hosts.some(same));
  return isMore && found !== -1 ? found : all.length;
}

/** The lines that a project's file needs, to say the same. */
export function yamlOf(rules: readonly EgressRule[]): string {
  return stringify({ egress: { rules } }, { lineWidth: 100 });
}

/** Of the file's `egress`, before and after: one hunk, as `diff -u` writes it. */
export function diffOf(before: Egress, after: Egress): string {
  const a = linesOf(before);
  const b = linesOf(after);
  const { head, tail } = commonEnds(a, b);
  const from = Math.max(0, head - CONTEXT_LINES);
  const untilA = Math.min(a.length, a.length - tail + CONTEXT_LINES);
  const untilB = Math.min(b.length, b.length - tail + CONTEXT_LINES);
  const start = a.length === 0 ? 0 : from + 1;
  return [
    "--- autocode.yaml",
    "+++ autocode.yaml",
    `@@ -${start},${untilA - from} +${from + 1},${untilB - from} @@`,
    ...a.slice(from, head).map((line) => ` ${line}`),
    ...a.slice(head, a.length - tail).map((line) => `-${line}`),
    ...b.slice(head, b.length - tail).map((line) => `+${line}`),
    ...a.slice(a.length - tail, untilA).map((line) => ` ${line}`),
    "",
  ].join("\n");
}

/**
 * How many lines are the same at both ends. Rules end and begin alike, so that a new one can be
 * taken for the end of one and the beginning of the next: whole items of a list are told.
 */
function commonEnds(a: readonly string[], b: readonly string[]): { head: number; tail: number } {
  const most = Math.min(a.length, b.length);
  let head = 0;
  while (head < most && a[head] === b[head]) head++;
  let tail = 0;
  while (tail < most && a.at(-1 - tail) === b.at(-1 - tail)) tail++;
  const isItem = (line: string | undefined) => line?.trimStart().startsWith("- action:") === true;
  const fromTail = Math.min(head, most - tail);
  if (isItem(b[fromTail]) && !isItem(b[head])) return { head: fromTail, tail };
  return { head, tail: Math.min(tail, most - head) };
}

function linesOf(egress: Egress): string[] {
  if (egress === undefined) return [];
  return stringify({ egress }, { lineWidth: 100 }).trimEnd().split("\n");
}
