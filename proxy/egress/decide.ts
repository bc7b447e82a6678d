/**
 * Decides what one session may do: its tunnels, their first bytes, and each of its requests anew.
 *
 * Invariants: no name is resolved that no rule lets through, since a look-up sends what is asked;
 * and what is connected to was checked after it was resolved.
 */
import type { Decision, DecisionReason } from "../../orchestrator/contract/egress.ts";
import { holdsCanary } from "./canary.ts";
import { foreignCredential, type Injection, injectCredential } from "./credentials.ts";
import type {
  ClientHello,
  Refusal,
  RequestDecision,
  RequestHead,
  Target,
  TunnelDecision,
} from "./guard.ts";
import { forwarded, headBytes, helloFault, readHead } from "./heads.ts";
import {
  addressFault,
  type CompiledRule,
  matchRequest,
  matchTunnel,
  type Policy,
} from "./policy.ts";
import { refusalOf } from "./refusal.ts";
import { type Host, readTarget, shown } from "./targets.ts";

/** What a session is decided by, as it is at the moment. */
export interface Deciding {
  policy(): Promise<Policy>;
  /** Why it may do nothing more; null while it may. */
  ended(): Promise<string | null>;
  /** Why nothing can be recorded now; null when it can. */
  recordFault(): string | null;
  /** Every address that the name has now; none when it has none, or nobody answers. */
  resolve(host: Host): Promise<readonly string[]>;
  readSecret(path: string): Promise<string | null>;
  /** Whether there, at that port, is something of the platform's own. */
  isOwn(host: Host, port: number, addresses: readonly string[]): Promise<boolean>;
  isGateway(host: Host, port: number): boolean;
  /** Forms of the canary, as `canaryForms` makes them. */
  canaries(): readonly string[];
  /** Takes one of the rule's requests; how long until there is one, 0 when there was. */
  take(rule: CompiledRule, perMinute: number): number;
  /** Whether the trial has sent all that it may, where it would send so many bytes more. */
  hasSentAll(policy: Policy, byteCount: number): boolean;
  /** Counts the bytes of a head or a name that leaves now; who carries a body counts that. */
  onHead(byteCount: number): void;
  /** The canary was about to leave. */
  onCanary(): void;
  /** Values that were put in, which no record may have. */
  onValues(values: readonly string[]): void;
  /** Answers a trial that replays a record, instead of forwarding; null: it replays none. */
  readonly replay: ((head: RequestHead) => Promise<RequestDecision>) | null;
}

/** What `mode: warn` lets through. A private address and a canary are refused all the same. */
const WARNABLE: readonly DecisionReason[] = [
  "rule",
  "no_rule",
  "too_large",
  "too_fast",
  "foreign_credential",
];
const UNLIMITED = Number.MAX_SAFE_INTEGER;

interface Refused {
  readonly outcome: "refuse";
  readonly decision: Decision;
  readonly refusal: Refusal;
}

/** `mayHideName`: what is passed through may carry an Encrypted Client Hello. */
type Tunnel =
  | Refused
  | (Extract<TunnelDecision, { outcome: "open" }> & { readonly mayHideName: boolean });

type Objection = Refused | { readonly outcome: "warn"; readonly decision: Decision } | null;

export function createDecisions(deciding: Deciding) {
  return { connect, hello, request };

  async function connect(target: Target): Promise<TunnelDecision> {
    return tunnel(target, true);
  }

  /** `isNew`: its name is counted; what it says first is asked of the same name again. */
  async function tunnel(target: Target, isNew: boolean): Promise<Tunnel> {
    const ended = await deciding.ended();
    if (ended !== null) return refuse("session_ended", null, ended);
    const read = readTarget(target);
    if (holdsCanary(deciding.canaries(), [target.host])) return canary(deciding, target.host);
    if (read.outcome === "unreadable") {
      return refuse("bad_target", null, `The host "${shown(target.host)}" ${read.fault}`);
    }
    const { host, port } = read.value;
    const policy = await deciding.policy();
    if (policy.isLlmProxied && deciding.isGateway(host, port)) return toGateway(deciding, host);
    const place = { host, port, isNew };
    const match = matchTunnel(policy, place);
    if (match.outcome === "none") {
      const objection = object(policy, "no_rule", null, noRule(host, port));
      return objection?.outcome === "refuse" ? objection : open(policy, place, []);
    }
    if (match.outcome === "request") return open(policy, place, match.candidates);
    if (match.rule.action === "deny") {
      const objection = object(policy, "rule", match.rule, denied(match.rule, host.text));
      return objection?.outcome === "refuse" ? objection : open(policy, place, []);
    }
    return open(policy, place, [match.rule]);
  }

  /** Opens a tunnel to a host that one of `rules` may let something through to. */
  async function open(
    policy: Policy,
    { host, port, isNew }: { host: Host; port: number; isNew: boolean },
    rules: readonly CompiledRule[],
  ): Promise<Tunnel> {
    const [rule = null] = rules;
    const passes = rules.length === 1 && rule?.action === "passthrough";
    const isWarned = rule === null;
    const decision: Decision = {
      action: passes ? "passthrough" : "allow",
      reason: isWarned ? "warned" : "rule",
      rule: rule?.place ?? null,
      detail: passes
        ? `${rule.place} passes TLS to ${host.text} through`
        : `A tunnel to ${host.text}; each request in it is decided by itself`,
    };
    const mayHideName = !passes || rule.rule.allows_encrypted_hello === true;
    const opened = { outcome: "open" as const, decision, host: host.text, mayHideName };
    if (deciding.replay !== null) return { ...opened, how: "intercept", addresses: [] };
    const named = isNew ? sendName(deciding, policy, rule, host) : null;
    if (named?.outcome === "refuse") return named;
    const reached = await reach(deciding, host, port, rules);
    if (reached.outcome === "refuse") return reached;
    const how = passes ? "passthrough" : "intercept";
    if (passes) {
      const fault = recordFault(deciding, policy, rule);
      if (fault !== null) return fault;
    }
    return { ...opened, how, addresses: reached.addresses };
  }

  async function hello(target: Target, said: ClientHello | null): Promise<TunnelDecision> {
    const decided = await tunnel(target, false);
    if (decided.outcome === "refuse") return decided;
    const read = readTarget(target);
    if (read.outcome === "unreadable") throw new Error("a tunnel to a target that is none");
    const rule = decided.decision.rule;
    if (said === null) {
      if (decided.how === "intercept") return decided;
      const detail = `What was sent to ${decided.host} is no TLS, which alone is passed through`;
      return refuse("not_http", rule, detail);
    }
    if (said.serverName !== null && holdsCanary(deciding.canaries(), [said.serverName])) {
      return canary(deciding, said.serverName);
    }
    const fault = helloFault(said, read.value.host, decided.mayHideName);
    if (fault?.outcome === "unreadable") return refuse(fault.reason, rule, fault.detail);
    if (decided.how === "intercept" || !said.hasEncryptedHello) return decided;
    const detail = `${decided.decision.detail}; it may be for a name that it hides`;
    return { ...decided, decision: { ...decided.decision, detail } };
  }

  async function request(head: RequestHead): Promise<RequestDecision> {
    const ended = await deciding.ended();
    if (ended !== null) return refuse("session_ended", null, ended);
    const read = readHead(head);
    const policy = await deciding.policy();
    const isGateway =
      read.outcome === "read" && policy.isLlmProxied && deciding.isGateway(read.host, read.port);
    if (!isGateway && holdsCanary(deciding.canaries(), [textOf(head)])) {
      return canary(deciding, head.target.host);
    }
    if (read.outcome === "unreadable") return refuse(read.reason, null, read.detail);
    const { host, port } = read;
    if (isGateway) return gatewayRequest(deciding, policy, host, head);
    const rule = matchRequest(policy, read);
    // Without its path, which may hold what no event should have; the record has it, redacted.
    const what = `${head.method} ${host.text}`;
    const first =
      rule === null
        ? object(policy, "no_rule", null, noRule(host, port, what))
        : rule.action === "deny"
          ? object(policy, "rule", rule, denied(rule, what))
          : null;
    if (first?.outcome === "refuse") return first;
    const further = limits(deciding, policy, rule, head);
    if (further?.outcome === "refuse") return further;
    return forward(policy, rule, { host, port, head, what }, first ?? further);
  }

  async function forward(
    policy: Policy,
    rule: CompiledRule | null,
    { host, port, head, what }: { host: Host; port: number; head: RequestHead; what: string },
    warning: Objection,
  ): Promise<RequestDecision> {
    const injection = await inject(deciding, rule, host, head);
    if (injection.outcome === "failed") {
      const detail = `No credential for ${host.text}: ${injection.detail}`;
      return refuse("credential_failed", rule?.place ?? null, detail);
    }
    const objection = warning ?? foreign(policy, rule, head, injection);
    if (objection?.outcome === "refuse") return objection;
    const decision: Decision = objection?.decision ?? {
      action: injection.credentials.length > 0 ? "inject" : "allow",
      reason: "rule",
      rule: rule?.place ?? null,
      detail: `${rule?.place} allows ${what}`,
    };
    if (deciding.replay !== null) return deciding.replay(head);
    const rules = rule === null || rule.action === "deny" ? [] : [rule];
    // In a tunnel of TLS the host is the tunnel's, which was counted.
    const isClear = head.scheme === "http" || head.scheme === "ws";
    const named = isClear ? sendName(deciding, policy, rule, host) : null;
    if (named?.outcome === "refuse") return named;
    const reached = await reach(deciding, host, port, rules);
    if (reached.outcome === "refuse") return reached;
    // Once more, as others were decided meanwhile: from here to its count nothing is waited for.
    const late = sentAll(deciding, policy, rule, head);
    if (late?.outcome === "refuse") return late;
    const headByteCount = headBytes(head);
    deciding.onHead(headByteCount);
    deciding.onValues(injection.values);
    return {
      outcome: "forward",
      decision,
      host: host.text,
      addresses: reached.addresses,
      headers: injection.headers,
      credentials: injection.credentials,
      scrubs: injection.scrubs,
      canaries: deciding.canaries(),
      requestBytesMax: warnedMax(policy, rule?.rule.request_bytes_max) - headByteCount,
      responseBytesMax: warnedMax(policy, rule?.rule.response_bytes_max),
    };
  }
}

/** Resolves a host once; every address it has must be one that the rules reach. */
async function reach(
  deciding: Deciding,
  host: Host,
  port: number,
  rules: readonly CompiledRule[],
): Promise<Refused | { outcome: "reached"; addresses: readonly string[] }> {
  const place = rules[0]?.place ?? null;
  const addresses = await deciding.resolve(host);
  if (addresses.length === 0) {
    return refuse("unresolved", place, `${host.text} has no address, or nobody told us one`);
  }
  if (await deciding.isOwn(host, port, addresses)) {
    const detail = `${host.text}:${port} is the platform's own, which no rule opens to a worker`;
    return refuse("private_address", place, detail);
  }
  const nobody = { rule: { action: "allow" as const, hosts: [] }, hosts: [] };
  const faults = (rules.length === 0 ? [nobody] : rules).map((rule) =>
    addressFault(rule, host, addresses),
  );
  const [fault] = faults;
  if (faults.some((one) => one === null) || !fault) return { outcome: "reached", addresses };
  return refuse(
    "private_address",
    place,
    `${host.text} is at ${fault.address}, which ${fault.fault}`,
  );
}

/** What a rule, or the policy, says of how much and how often. */
function limits(
  deciding: Deciding,
  policy: Policy,
  rule: CompiledRule | null,
  head: RequestHead,
): Objection {
  const unrecorded = recordFault(deciding, policy, rule);
  if (unrecorded !== null) return unrecorded;
  const { request_bytes_max: bytesMax = UNLIMITED, requests_per_minute: perMinute } =
    rule?.rule ?? {};
  const byteCount = headBytes(head) + (head.bodyByteCount ?? 0);
  if (byteCount > bytesMax) {
    const detail = `The request has ${byteCount} bytes with its head; the rule takes ${bytesMax}`;
    return object(policy, "too_large", rule, detail);
  }
  const all = sentAll(deciding, policy, rule, head);
  if (all !== null) return all;
  if (rule === null || perMinute === undefined) return null;
  const waitMs = deciding.take(rule, perMinute);
  if (waitMs === 0) return null;
  const detail = `The rule takes ${perMinute} requests a minute; try again later`;
  return object(policy, "too_fast", rule, detail);
}

/** A name leaves when it is looked up, and in TLS again: also where nothing answers to it. */
function sendName(
  deciding: Deciding,
  policy: Policy,
  rule: CompiledRule | null,
  host: Host,
): Objection {
  const byteCount = Buffer.byteLength(host.text);
  if (!deciding.hasSentAll(policy, byteCount)) {
    deciding.onHead(byteCount);
    return null;
  }
  const detail = `The trial may send ${policy.requestBytesPerTrialMax} bytes in all, the names of`;
  return object(policy, "too_large", rule, `${detail} hosts among them: this one would be more`);
}

/** A trial sends so many bytes, heads and bodies, and no request that would be over that. */
function sentAll(
  deciding: Deciding,
  policy: Policy,
  rule: CompiledRule | null,
  head: RequestHead,
): Objection {
  const byteCount = headBytes(head) + (head.bodyByteCount ?? 0);
  if (!deciding.hasSentAll(policy, byteCount)) return null;
  const detail = `The trial may send ${policy.requestBytesPerTrialMax} bytes in all, heads and`;
  return object(
    policy,
    "too_large",
    rule,
    `${detail} bodies: with this request it would send more`,
  );
}

async function inject(
  deciding: Deciding,
  rule: CompiledRule | null,
  host: Host,
  head: RequestHead,
): Promise<Injection> {
  const headers = forwarded(head.headers);
  const injection = await injectCredential(rule?.rule ?? null, headers, deciding.readSecret);
  const isClear = head.scheme === "http" || head.scheme === "ws";
  if (injection.outcome === "failed" || injection.credentials.length === 0) return injection;
  if (!isClear || rule?.rule.is_private === true) return injection;
  return { outcome: "failed", detail: `${host.text} is asked without TLS; use https` };
}

function foreign(
  policy: Policy,
  rule: CompiledRule | null,
  head: RequestHead,
  { ours }: Extract<Injection, { outcome: "done" }>,
): Objection {
  if (rule?.rule.allows_credentials === true) return null;
  const found = foreignCredential(head.path, forwarded(head.headers), ours);
  if (found === null) return null;
  const detail = `The request has ${found}, which we did not give the worker; leave it out, let`;
  const advice = "the rule inject one, or set allows_credentials on it";
  return object(policy, "foreign_credential", rule, `${detail} ${advice}`);
}

async function toGateway(deciding: Deciding, host: Host): Promise<Tunnel> {
  const addresses = await deciding.resolve(host);
  if (addresses.length === 0) return refuse("unresolved", null, "The gateway has no address");
  const decision = gatewayDecision("A tunnel to the metering gateway");
  const opened = { outcome: "open" as const, decision, host: host.text, mayHideName: true };
  return { ...opened, how: "intercept", addresses };
}

async function gatewayRequest(
  deciding: Deciding,
  policy: Policy,
  host: Host,
  head: RequestHead,
): Promise<RequestDecision> {
  const unrecorded = recordFault(deciding, policy, null);
  if (unrecorded !== null) return unrecorded;
  const addresses = await deciding.resolve(host);
  if (addresses.length === 0) return refuse("unresolved", null, "The gateway has no address");
  deciding.onHead(headBytes(head));
  return {
    outcome: "forward",
    decision: gatewayDecision("A call to the metering gateway"),
    host: host.text,
    addresses,
    headers: forwarded(head.headers),
    // A model is told what is in the environment, when an agent looks at it; that is no leak.
    ...{ credentials: [], scrubs: [], canaries: [] },
    ...{ requestBytesMax: UNLIMITED, responseBytesMax: UNLIMITED },
  };
}

function canary(deciding: Deciding, host: string): Refused {
  deciding.onCanary();
  const detail = `The trial's canary was about to leave to ${shown(host)}; the trial is stopped`;
  return refuse("canary", null, detail);
}

function recordFault(
  deciding: Deciding,
  policy: Policy,
  rule: CompiledRule | null,
): Refused | null {
  const fault = policy.isRecordRequired ? deciding.recordFault() : null;
  if (fault === null) return null;
  const detail = `Nothing can be recorded now, and the policy requires a record: ${fault}`;
  return refuse("unrecorded", rule?.place ?? null, detail);
}

/** A refusal; or a warning, where the policy only warns of that. */
function object(
  policy: Policy,
  reason: DecisionReason,
  rule: CompiledRule | null,
  detail: string,
): Objection {
  const place = rule?.place ?? null;
  if (!policy.isWarnOnly || !WARNABLE.includes(reason)) {
    return refuse(reason, place, detail);
  }
  const told = `mode: warn lets this through: ${detail}`.slice(0, 1_000);
  return {
    outcome: "warn",
    decision: { action: "allow", reason: "warned", rule: place, detail: told },
  };
}

function refuse(reason: DecisionReason, rule: string | null, detail: string): Refused {
  const decision: Decision = { action: "deny", reason, rule, detail: detail.slice(0, 1_000) };
  return { outcome: "refuse", decision, refusal: refusalOf(decision) };
}

function gatewayDecision(detail: string): Decision {
  return { action: "allow", reason: "gateway", rule: null, detail };
}

function warnedMax(policy: Policy, max: number | undefined): number {
  return policy.isWarnOnly ? UNLIMITED : (max ?? UNLIMITED);
}

function textOf({ target, authority, serverName, path, headers }: RequestHead): string {
  return [target.host, authority ?? "", serverName ?? "", path, ...headers.flat()].join("\n");
}

export function noRule(host: Host, port: number, what?: string): string {
  const asked = what ?? `${host.text}:${port}`;
  return `No rule allows ${shownWords(asked)}; add one to the project's egress, or ask for it`;
}

export function denied({ place, rule }: CompiledRule, what: string): string {
  const because = rule.reason === undefined ? "" : `: ${rule.reason}`;
  return `${place} denies ${shownWords(what)}${because}`;
}

/** A method and a host: what stands between them is our own. */
function shownWords(what: string): string {
  return what.split(" ").map(shown).join(" ");
}
