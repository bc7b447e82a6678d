/**
 * The policy as it decides: layers become one list of rules, read from the first to the last. Pure.
 *
 * Invariants: the first rule that matches decides, and what none matches is refused; where a
 * request can be understood in several ways, a `deny` that holds of one of them matches, and an
 * `allow` only when it holds of all.
 */
import type {
  EgressAction,
  EgressLayer,
  EgressPolicy,
  EgressRule,
} from "../../orchestrator/contract/egress.ts";
import { classOf } from "./addresses.ts";
import { matchesPath } from "./paths.ts";
import { PRESETS } from "./presets.ts";
import { type Host, readHost } from "./targets.ts";

export interface CompiledRule {
  /** `rules[3]`, `agents.aider.rules[0]`, `preset npm[1]`, `trial rules[0]`. */
  readonly place: string;
  readonly action: EgressAction;
  readonly rule: EgressRule;
  readonly hosts: readonly HostPattern[];
  readonly ports: readonly number[];
}

type HostPattern =
  | { readonly kind: "any" }
  /** `text`: what all names below it end with, the dot included. */
  | { readonly kind: "below"; readonly text: string }
  | { readonly kind: "exact"; readonly host: Host };

export interface Policy {
  readonly isWarnOnly: boolean;
  readonly rules: readonly CompiledRule[];
  readonly isRecordRequired: boolean;
  readonly isLlmProxied: boolean;
  /** `Number.MAX_SAFE_INTEGER` where there is no limit. */
  readonly requestBytesPerTrialMax: number;
}

export interface Question {
  readonly host: Host;
  readonly port: number;
  /** The request's own, and what it asks to be taken for. */
  readonly methods: readonly string[];
  readonly paths: readonly string[];
}

/** What is known of a tunnel before a request is read. */
export type TunnelMatch =
  | { readonly outcome: "none" }
  /** It decides whatever is asked. */
  | { readonly outcome: "rule"; readonly rule: CompiledRule }
  /** It depends on the request; one of these may let it through. */
  | { readonly outcome: "request"; readonly candidates: readonly CompiledRule[] };

const PORTS = [80, 443];
const OPEN: EgressPolicy = {
  rules: [{ action: "allow", hosts: ["*"], allows_credentials: true }],
};

/** The rules in force for one agent's trial, the trial's own first. */
export function compilePolicy(
  egress: EgressPolicy | "deny" | "open" | undefined,
  agent: string | null,
  trial: EgressLayer | null,
): Policy {
  const project =
    egress === "open" ? OPEN : egress === undefined || egress === "deny" ? {} : egress;
  const own = agent === null ? undefined : project.agents?.[agent];
  const layers: readonly (readonly [string, EgressLayer | null | undefined])[] = [
    ["trial rules", trial],
    [`agents.${agent}.rules`, own],
    ["rules", project],
  ];
  const presets = new Set(layers.flatMap(([, layer]) => layer?.presets ?? []));
  return {
    isWarnOnly: project.mode === "warn",
    isRecordRequired: project.require_record ?? false,
    isLlmProxied: project.llm_through_proxy ?? false,
    requestBytesPerTrialMax: project.request_bytes_per_trial_max ?? Number.MAX_SAFE_INTEGER,
    rules: [
      ...layers.flatMap(([place, layer]) => compileRules(place, layer?.rules ?? [])),
      ...[...presets].flatMap((name) => compileRules(`preset ${name}`, PRESETS[name])),
    ],
  };
}

function compileRules(place: string, rules: readonly EgressRule[]): CompiledRule[] {
  return rules.map((rule, index) => ({
    place: `${place}[${index}]`,
    action: rule.action,
    rule,
    hosts: rule.hosts.flatMap((host) => compileHost(host) ?? []),
    ports: rule.ports ?? PORTS,
  }));
}

/** Null for what no target can be: such a pattern matches nothing. */
export function compileHost(pattern: string): HostPattern | null {
  if (pattern === "*") return { kind: "any" };
  const isBelow = pattern.startsWith("*.");
  const read = readHost(isBelow ? pattern.slice(2) : pattern);
  if (read.outcome === "unreadable") return null;
  if (!isBelow) return { kind: "exact", host: read.value };
  return read.value.kind === "name" ? { kind: "below", text: `.${read.value.text}` } : null;
}

/** The first rule that matches a request; null: it is refused. */
export function matchRequest({ rules }: Policy, question: Question): CompiledRule | null {
  return rules.find((rule) => isOfTarget(rule, question) && isOfRequest(rule, question)) ?? null;
}

export function matchTunnel(
  { rules }: Policy,
  target: Pick<Question, "host" | "port">,
): TunnelMatch {
  const candidates: CompiledRule[] = [];
  for (const rule of rules) {
    if (!isOfTarget(rule, target)) continue;
    const isConditional = rule.rule.methods !== undefined || rule.rule.paths !== undefined;
    if (!isConditional && candidates.length === 0) return { outcome: "rule", rule };
    candidates.push(rule);
    if (!isConditional) break;
  }
  const hopeful = candidates.filter(({ action }) => action !== "deny");
  return hopeful.length === 0 ? firstDeny(candidates) : { outcome: "request", candidates: hopeful };
}

function firstDeny([rule]: readonly CompiledRule[]): TunnelMatch {
  return rule === undefined ? { outcome: "none" } : { outcome: "rule", rule };
}

function isOfTarget(
  { action, hosts, ports }: CompiledRule,
  { host, port }: Pick<Question, "host" | "port">,
): boolean {
  // Where no port is named, a deny is of every port.
  const isOfPort = ports.includes(port) || (action === "deny" && ports === PORTS);
  return isOfPort && hosts.some((pattern) => matchesHost(pattern, host, action));
}

function matchesHost(pattern: HostPattern, host: Host, action: EgressAction): boolean {
  switch (pattern.kind) {
    case "any":
      // An address is reached by its own name alone.
      return host.kind === "name" || action === "deny";
    case "below":
      return host.kind === "name" && host.text.endsWith(pattern.text);
    case "exact":
      return pattern.host.kind === host.kind && pattern.host.text === host.text;
  }
}

function isOfRequest({ action, rule }: CompiledRule, { methods, paths }: Question): boolean {
  const isOfMethod = (method: string) => rule.methods?.includes(method) ?? true;
  const isOfPath = (path: string) =>
    rule.paths?.some((pattern) => matchesPath(pattern, path)) ?? true;
  return action === "deny"
    ? methods.some(isOfMethod) && paths.some(isOfPath)
    : methods.every(isOfMethod) && paths.every(isOfPath);
}

/**
 * The first of a host's addresses that the rule does not reach, and why; null when it reaches all.
 * One bad address among good ones is enough: which one is connected to is another's choice.
 */
export function addressFault(
  { rule, hosts }: Pick<CompiledRule, "rule" | "hosts">,
  host: Host,
  addresses: readonly string[],
): { address: string; fault: string } | null {
  const isPrivate = rule.is_private ?? false;
  const isNamed = hosts.some(
    (pattern) => pattern.kind !== "any" && matchesHost(pattern, host, "allow"),
  );
  for (const address of addresses) {
    const kind = classOf(address);
    if (kind === "public") continue;
    if (kind === "private" && isPrivate && isNamed) continue;
    if (kind === "literal" && isPrivate && host.kind === "address") continue;
    const fault =
      kind === "private"
        ? "is a loopback or private address, which a rule must name with is_private: true"
        : "is a link-local, metadata or special address, which a rule must name by itself";
    return { address, fault };
  }
  return null;
}
