/**
 * What a policy says of a request that nobody sends: for who writes one, and for a command. No name
 * is resolved, so that of a host's addresses only those are known that are in the URL.
 */
import type {
  Decision,
  EffectivePolicy,
  EgressQuestion,
  EgressRule,
} from "../../orchestrator/contract/egress.ts";
import type { ProjectFile } from "../../orchestrator/contract/projects.ts";
import { denied, noRule } from "./decide.ts";
import { readPath } from "./paths.ts";
import { addressFault, compilePolicy, matchRequest, type Policy } from "./policy.ts";
import { readAuthority, shown } from "./targets.ts";

const URL_PARTS = /^(https?|wss?):\/\/([^/?#]*)([^#]*)(#.*)?$/i;
const UNLIMITED = Number.MAX_SAFE_INTEGER;

type Egress = ProjectFile["egress"];

/** @param find a project by its name. */
export function createEgressPolicies(projects: {
  find(name: string): Promise<{ config: Pick<ProjectFile, "egress"> }>;
}) {
  return {
    policy: async (project: string, agent: string | null): Promise<EffectivePolicy> =>
      describePolicy((await projects.find(project)).config.egress, agent),
    decide: async (project: string, question: EgressQuestion): Promise<Decision> =>
      decideDry((await projects.find(project)).config.egress, question),
  };
}

/** Read as it is written: a URL's reader would make one address of many forms. */
export function decideDry(egress: Egress, question: EgressQuestion): Decision {
  const { url, method = "GET", agent = null } = question;
  const policy = compilePolicy(egress, agent, null);
  const [, scheme, authority, rest] = URL_PARTS.exec(url) ?? [];
  if (scheme === undefined || authority === undefined || rest === undefined) {
    return deny("bad_target", null, `"${shown(url)}" is no URL of http, https, ws or wss`);
  }
  const isSecure = /s$/i.test(scheme);
  const target = readAuthority(authority, isSecure ? 443 : 80);
  if (target.outcome === "unreadable") {
    return deny("bad_target", null, `The host "${shown(authority)}" ${target.fault}`);
  }
  if (egress === "open") {
    return { action: "allow", reason: "rule", rule: null, detail: "The project's egress is open" };
  }
  const path = readPath(rest.startsWith("/") ? rest : `/${rest}`);
  if (path.outcome === "unreadable") {
    return deny("bad_request", null, `The request's path ${path.fault}`);
  }
  const asked = { ...target.value, methods: [method], paths: path.readings };
  return decideAsked(policy, asked, isSecure);
}

type Asked = Parameters<typeof matchRequest>[1];

function decideAsked(policy: Policy, asked: Asked, isSecure: boolean): Decision {
  const { host, port, methods } = asked;
  const what = `${methods[0]} ${host.text}`;
  const rule = matchRequest(policy, asked);
  if (rule === null) return warned(policy, deny("no_rule", null, noRule(host, port, what)));
  const { place, action } = rule;
  if (action === "deny") return warned(policy, deny("rule", place, denied(rule, what)));
  if (host.kind === "address") {
    const fault = addressFault(rule, host, [host.text]);
    if (fault !== null) return deny("private_address", place, `${host.text} ${fault.fault}`);
  }
  if (action === "inject" && !isSecure && rule.rule.is_private !== true) {
    const detail = `No credential for ${host.text}: it is asked without TLS; use https`;
    return deny("credential_failed", place, detail);
  }
  return {
    action,
    reason: "rule",
    rule: place,
    detail: `${place} allows ${what}${more(rule.rule)}`,
  };
}

function more({ credential, requests_per_minute: perMinute }: EgressRule): string {
  const parts = [
    ...(credential === undefined ? [] : [`with the secret ${credential.secret}`]),
    ...(perMinute === undefined ? [] : [`${perMinute} times a minute`]),
  ];
  return parts.length === 0 ? "" : `, ${parts.join(", ")}`;
}

/** The rules in force for an agent, in the order in which they are read. */
export function describePolicy(egress: Egress, agent: string | null): EffectivePolicy {
  const policy = compilePolicy(egress, agent, null);
  const { requestBytesPerTrialMax: bytesMax } = policy;
  const own = typeof egress === "object" ? egress : {};
  return {
    kind: egress === "open" ? "open" : "proxied",
    mode: policy.isWarnOnly ? "warn" : "enforce",
    require_isolation: own.require_isolation ?? false,
    require_record: policy.isRecordRequired,
    llm_through_proxy: policy.isLlmProxied,
    request_bytes_per_trial_max: bytesMax === UNLIMITED ? null : bytesMax,
    rules: policy.rules.map(({ place, rule }) => ({ place, rule })),
  };
}

function deny(reason: Decision["reason"], rule: string | null, detail: string): Decision {
  return { action: "deny", reason, rule, detail };
}

function warned(policy: Policy, decision: Decision): Decision {
  if (!policy.isWarnOnly) return decision;
  const detail = `mode: warn lets this through: ${decision.detail}`.slice(0, 1_000);
  return { ...decision, action: "allow", reason: "warned", detail };
}
