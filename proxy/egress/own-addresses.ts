/**
 * The platform's own addresses, which no rule opens to a worker: a worker that reached the database
 * or the secrets would need no other way out.
 */
import { networkInterfaces } from "node:os";
import { canonicalAddress, classOf } from "./addresses.ts";
import { type Host, readHost } from "./targets.ts";

interface Own {
  /** As it is written: a name, or an address; null: wherever this machine listens. */
  readonly host: Host | null;
  /** Null: any. */
  readonly port: number | null;
}

const PORTS: Readonly<Record<string, number>> = {
  "http:": 80,
  "https:": 443,
  "postgres:": 5432,
  "postgresql:": 5432,
};

/** @param resolve every address of a name; none when it has none. */
export function createOwnAddresses(
  list: () => readonly string[],
  resolve: (host: Host) => Promise<readonly string[]>,
) {
  let read: { texts: string; owns: readonly Own[] } = { texts: "", owns: [] };
  return { isOwn };

  async function isOwn(host: Host, port: number, addresses: readonly string[]): Promise<boolean> {
    const theirs = addresses.map(canonicalAddress);
    for (const own of owns()) {
      if (own.port !== null && own.port !== port) continue;
      if (own.host === null) {
        if (theirs.some(isOfThisMachine)) return true;
        continue;
      }
      if (own.host.kind === host.kind && own.host.text === host.text) return true;
      const ours = own.host.kind === "address" ? [own.host.text] : await resolve(own.host);
      if (ours.some((address) => theirs.includes(canonicalAddress(address)))) return true;
    }
    return false;
  }

  function owns(): readonly Own[] {
    const texts = list();
    const joined = texts.join("\n");
    if (joined !== read.texts) read = { texts: joined, owns: texts.flatMap(readOwn) };
    return read.owns;
  }
}

/** A URL, or `host:port`; nothing for what is not there yet. */
function readOwn(text: string): Own[] {
  const url = URL.parse(text.includes("://") ? text : `tcp://${text}`);
  if (url === null || url.hostname === "") return [];
  const port = url.port === "" ? (PORTS[url.protocol] ?? null) : Number(url.port);
  const host = readHost(url.hostname);
  if (host.outcome === "unreadable") return [];
  const isWildcard = host.value.text === "0.0.0.0" || host.value.text === "::";
  return [{ host: isWildcard ? null : host.value, port }];
}

function isOfThisMachine(address: string): boolean {
  const plain = address.replace(/^\[|\]$/g, "");
  if (/^127\.|^0\.|^(::1|::)$/.test(plain)) return true;
  if (/^::ffff:/.test(plain) && classOf(plain) === "private") return true;
  return Object.values(networkInterfaces()).some((list) =>
    list?.some((own) => canonicalAddress(own.address) === address),
  );
}
