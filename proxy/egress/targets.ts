/**
 * Reads the host and the port that a worker names. Pure.
 *
 * Invariant: a target is understood in one way, the same for every resolver and client, or it is
 * refused: what some readers take for an address and others for a name is neither here.
 */
import { isIPv4, isIPv6 } from "node:net";
import { domainToASCII, domainToUnicode } from "node:url";
import type { Target } from "./guard.ts";

export type Host =
  /** Lower case, without the root's dot. */
  | { readonly kind: "name"; readonly text: string }
  /** As the address is written shortest, without brackets. */
  | { readonly kind: "address"; readonly text: string };

export type Reading<Value> =
  | { readonly outcome: "read"; readonly value: Value }
  /** `fault`: what is wrong with it, for a sentence that begins with the host. */
  | { readonly outcome: "unreadable"; readonly fault: string };

const NAME_LENGTH_MAX = 253;
const LABEL = /^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$/;
/** What the URL standard takes for a number in a last label, and so the host for an address. */
const NUMERIC = /^(0x[0-9a-f]*|[0-9]+)$/;

export function readHost(written: string): Reading<Host> {
  if (written.length > NAME_LENGTH_MAX + 1) return unreadable("is longer than 253 characters");
  const bracketed = /^\[([0-9A-Fa-f:.]+)\]$/.exec(written)?.[1];
  const literal = bracketed ?? written;
  if (literal.includes(":")) return readIpv6(literal);
  if (bracketed !== undefined) return unreadable("has brackets around what is no IPv6 address");
  if (!/^[\x21-\x7e]*$/.test(written)) {
    return unreadable("has characters that are not ASCII, or control characters");
  }
  const name = written.toLowerCase().replace(/\.$/, "");
  if (isIPv4(name)) return { outcome: "read", value: { kind: "address", text: name } };
  const labels = name.split(".");
  if (NUMERIC.test(labels.at(-1) ?? "")) {
    return unreadable("looks like an address that is written in an unusual way");
  }
  if (!labels.every((label) => LABEL.test(label))) return unreadable("is no host name");
  // An encoded label must be the encoding of what it stands for, and of nothing else.
  const decoded = labels.some((label) => label.startsWith("xn--")) ? domainToUnicode(name) : "";
  if (decoded !== "" && (/(^|[.])xn--/.test(decoded) || domainToASCII(decoded) !== name)) {
    return unreadable("has a label that is no valid Punycode");
  }
  return { outcome: "read", value: { kind: "name", text: name } };
}

function readIpv6(literal: string): Reading<Host> {
  if (!isIPv6(literal)) return unreadable("is no IPv6 address");
  const text = new URL(`http://[${literal}]/`).hostname.slice(1, -1);
  if (/^::ffff:/.test(text)) return unreadable("is an IPv4 address written as an IPv6 one");
  return { outcome: "read", value: { kind: "address", text } };
}

/** A target's host and port, as an engine split them. */
export function readTarget({ host, port }: Target): Reading<{ host: Host; port: number }> {
  if (!Number.isInteger(port) || port < 1 || port > 65_535) {
    return unreadable(`has the port ${port}, which there is not`);
  }
  const read = readHost(host);
  if (read.outcome === "unreadable") return read;
  return { outcome: "read", value: { host: read.value, port } };
}

/**
 * `Host`, `:authority`, or the authority of a URL.
 *
 * @param defaultPort of its scheme, for one without a port.
 */
export function readAuthority(
  written: string,
  defaultPort: number,
): Reading<{ host: Host; port: number }> {
  if (written.includes("@")) return unreadable("has user information before the host");
  const [, host = "", port] = /^(\[[^\]]*\]|[^:]*)(?::([0-9]{1,5}))?$/.exec(written) ?? [];
  if (host === "") return unreadable("is no host and port");
  return readTarget({ host, port: port === undefined ? defaultPort : Number(port) });
}

export function isSame(a: Host, b: Host): boolean {
  return a.kind === b.kind && a.text === b.text;
}

/** What a person reads, and what is written into a record: without what moves a terminal. */
export function shown(written: string): string {
  const clean = written.replaceAll(/[^\x21-\x7e]/g, "?");
  return clean.length > 200 ? `${clean.slice(0, 200)}…` : clean;
}

function unreadable(fault: string): { outcome: "unreadable"; fault: string } {
  return { outcome: "unreadable", fault };
}
