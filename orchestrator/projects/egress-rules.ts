/** What must hold of an egress policy beyond its schema, and the file of one layer. Pure. */
import { Compile } from "typebox/compile";
import { EgressLayer, type EgressPolicy, type EgressRule } from "../contract/egress.ts";
import { SECRET_PATH } from "../secrets/secrets.ts";
import { readCheckedYaml } from "./checked-yaml.ts";

export interface EgressFault {
  /** Below the policy, or the layer. */
  path: string[];
  message: string;
}

const layerFile = { schema: EgressLayer, validator: Compile(EgressLayer) };
/** What the worker sets by itself: how its programs find the proxy, and what they are. */
const RESERVED =
  /^(PATH|HOME|USER|SHELL|PWD|TMPDIR|LD_.*|NODE_.*|(HTTPS?|ALL|NO|FTP)_PROXY|SSL_CERT_.*)$/;

/**
 * A file for `trial run --egress`.
 *
 * @throws Problem `invalid_request`: one line, naming file, line, field and what to do.
 */
export function parseEgressLayer(text: string, fileName: string): EgressLayer {
  const read = readCheckedYaml(layerFile, { text, fileName });
  const [fault] = layerFaults(read.value, []);
  if (fault !== undefined) throw read.fault(fault.path, fault.message);
  return read.value;
}

export function policyFaults(policy: EgressPolicy): EgressFault[] {
  const agents = Object.entries(policy.agents ?? {});
  return [
    ...layerFaults(policy, []),
    ...agents.flatMap(([name, layer]) => layerFaults(layer, ["agents", name])),
    ...environmentFaults(policy),
  ];
}

function layerFaults({ rules = [] }: EgressLayer, path: readonly string[]): EgressFault[] {
  return rules.flatMap((rule, index) =>
    ruleFaults(rule).map((fault) => ({
      ...fault,
      path: [...path, "rules", String(index), ...fault.path],
    })),
  );
}

function ruleFaults(rule: EgressRule): EgressFault[] {
  const { action, credential, hosts } = rule;
  const faults: EgressFault[] = [];
  const say = (path: string[], message: string) => faults.push({ path, message });
  if (action === "inject" && credential === undefined) {
    say([], "inject needs a credential: the secret to put in, such as { secret: forge/token }");
  }
  if (action !== "inject" && credential !== undefined) {
    say(["credential"], `is for the action inject, and this rule says ${action}`);
  }
  if (credential?.format !== undefined && credential.header === undefined) {
    say(
      ["credential", "format"],
      "needs a header; without one it is the placeholder that is replaced",
    );
  }
  if (action === "inject" && hosts.includes("*")) {
    say(["hosts"], "inject names its hosts; with * the secret would go to any host");
  }
  if (action === "passthrough") {
    for (const key of ["methods", "paths"] as const) {
      if (rule[key] !== undefined) say([key], "cannot be read through TLS that is not opened");
    }
  }
  if (action !== "passthrough" && rule.allows_encrypted_hello !== undefined) {
    say(["allows_encrypted_hello"], `is for the action passthrough, and this rule says ${action}`);
  }
  if (rule.is_private === true && hosts.includes("*")) {
    say(["is_private"], "needs hosts that are named; with * it would open every private network");
  }
  for (const [index, host] of hosts.entries()) {
    const fault = hostFault(host);
    if (fault !== null) say(["hosts", String(index)], fault);
  }
  return faults;
}

/** What the schema's pattern lets through, and no target can be. */
function hostFault(host: string): string | null {
  if (host === "*" || host.startsWith("[")) return null;
  if (/^[^:]+:[0-9]+$/.test(host)) return `has a port; write it as ports: [${host.split(":")[1]}]`;
  const name = host.replace(/^\*\./, "");
  if (/^[0-9.]+$/.test(name) && !/^([0-9]{1,3}\.){3}[0-9]{1,3}$/.test(name)) {
    return "is no address of four numbers, nor a name";
  }
  if (host.startsWith("*.") && /^([0-9.]+|.*:.*)$/.test(name))
    return "there is nothing below an address";
  return null;
}

function environmentFaults(policy: EgressPolicy): EgressFault[] {
  const layers = [policy, ...Object.values(policy.agents ?? {})];
  const injected = new Set(
    layers.flatMap(({ rules = [] }) => rules.flatMap(({ credential }) => credential?.secret ?? [])),
  );
  return Object.entries(policy.environment ?? {}).flatMap(([name, value]) => {
    const path = ["environment", name];
    if (RESERVED.test(name)) return [{ path, message: "is the worker's own to set" }];
    const message = placeholderFault(value, injected);
    return message === null ? [] : [{ path, message }];
  });
}

function placeholderFault(value: string, injected: ReadonlySet<string>): string | null {
  for (const [whole, path = ""] of value.matchAll(/\{\{(?:secret:)?([^{}]*)\}\}/g)) {
    if (!whole.startsWith("{{secret:") || !SECRET_PATH.test(path)) {
      return `"${whole}" is no placeholder; write {{secret:forge/token}} with a secret's path`;
    }
    if (!injected.has(path)) {
      return `no rule injects "${path}", so that the placeholder would stay as it is`;
    }
  }
  if (/\{\{\s*secret|secret:[^}]*$/.test(value.replaceAll(/\{\{secret:[^{}]*\}\}/g, ""))) {
    return "has a placeholder that is not closed; write {{secret:forge/token}}";
  }
  return null;
}
