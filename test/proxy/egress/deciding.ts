/** What a session is decided by, without a database: a policy, names with addresses, secrets. */
import type { ProjectFile } from "../../../orchestrator/contract/projects.ts";
import { canaryForms } from "../../../proxy/egress/canary.ts";
import { createDecisions, type Deciding } from "../../../proxy/egress/decide.ts";
import type { RequestHead } from "../../../proxy/egress/guard.ts";
import { createOwnAddresses } from "../../../proxy/egress/own-addresses.ts";
import { compilePolicy, type Policy } from "../../../proxy/egress/policy.ts";
import { createRates } from "../../../proxy/egress/rates.ts";
import type { Host } from "../../../proxy/egress/targets.ts";
import { createTestClock } from "../../support/ledger.ts";

export const CANARY = "AKIAQ7ZP2M4X6W3R5TYB:c4n4ryK3yThatNobodyEverUsesForAnything1234";
export const PUBLIC = "93.184.215.14";

export interface DecidingOptions {
  egress: ProjectFile["egress"];
  /** Answers of the resolver by name, one after the other; the last one stays. */
  names?: Record<string, readonly string[][]>;
  secrets?: Record<string, string | Error>;
  own?: readonly string[];
  gateway?: string;
  recordFault?: string | null;
  sent?: number;
}

export function openDecisions(options: DecidingOptions) {
  const { egress, names = {}, secrets = {}, own = [], gateway = "" } = options;
  const asked: string[] = [];
  const values: string[] = [];
  const clock = createTestClock();
  const rates = createRates(clock);
  const policy = compilePolicy(egress, "aider", null);
  const seen = { canaries: 0, sent: options.sent ?? 0 };
  const resolve = async (host: Host): Promise<readonly string[]> => {
    if (host.kind === "address") return [host.text];
    asked.push(host.text);
    const answers = names[host.text] ?? [[PUBLIC]];
    return (answers.length > 1 ? (answers as string[][]).shift() : answers[0]) ?? [];
  };
  const deciding: Deciding = {
    policy: async () => policy,
    ended: async () => null,
    recordFault: () => options.recordFault ?? null,
    resolve,
    readSecret: async (path) => {
      const secret = secrets[path];
      if (secret instanceof Error) throw secret;
      return secret ?? null;
    },
    isOwn: createOwnAddresses(() => own, resolve).isOwn,
    isGateway: (host, port) => gateway === `${host.text}:${port}`,
    canaries: () => canaryForms(CANARY),
    take: ({ place }, perMinute) => rates.take(place, perMinute),
    hasSentAll: ({ requestBytesPerTrialMax: max }: Policy, more) => seen.sent + more > max,
    onHead: (byteCount) => {
      seen.sent += byteCount;
    },
    onCanary: () => {
      seen.canaries++;
    },
    onValues: (more) => values.push(...more),
    replay: null,
  };
  return { ...createDecisions(deciding), asked, values, seen, clock, secrets };
}

/** A request of https for `url`, which a client of good manners would send. */
export function headOf(url: string, more: Partial<RequestHead> = {}): RequestHead {
  const { hostname, host, port, protocol, pathname, search } = new URL(url);
  const scheme = protocol.slice(0, -1) as RequestHead["scheme"];
  const isSecure = scheme === "https" || scheme === "wss";
  return {
    method: "GET",
    scheme,
    target: { host: hostname, port: Number(port) || (isSecure ? 443 : 80) },
    authority: host,
    serverName: isSecure ? hostname : null,
    path: `${pathname}${search}`,
    headers: [],
    bodyByteCount: null,
    ...more,
  };
}
