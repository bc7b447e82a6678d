/**
 * The host's side of a closed network: an nftables table (nft(8)) of one link's own, which lets its
 * packets to our relays alone, refuses the rest at once, and counts it by its destination.
 *
 * It stands before routing and before every other table, so that neither the host's own rules nor
 * its forwarding matter. Its name has the link's hardware address, which is drawn for each
 * allocation: a table whose link is gone is nobody's, and is removed by whoever comes next.
 */
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { messageOf } from "../faults.ts";
import type { Dropped } from "./isolate.ts";
import { runProgram } from "./programs.ts";

const PREFIX = "autocode_link_";
/** Every link of the host, whether it is up or not. */
const LINKS = "/sys/class/net";
/** Destinations that are counted apart; the rest is one sum. */
const DESTINATIONS_MAX = 1_024;
const TOLD_DESTINATIONS_MAX = 200;
const TOLD_TIMES_MAX = 20;
/** What has a port at the third and fourth byte of its header. */
const WITH_PORTS = "{ tcp, udp, udplite, sctp, dccp }";

export interface Link {
  /** The host's end. */
  readonly name: string;
  readonly mac: string;
  readonly hostAddress: string;
  readonly innerAddress: string;
}

export interface Firewall {
  /**
   * What was dropped since it was last told; `isLast`: also what was told too often meanwhile.
   *
   * @throws FirewallGone when it holds nothing any more.
   */
  count(isLast: boolean): Promise<Dropped[]>;
  remove(): Promise<void>;
}

/** @param ports of the host's end, over TCP: all that may be reached. */
export async function raiseFirewall(
  nft: string,
  link: Link,
  ports: readonly number[],
): Promise<Firewall> {
  const table = PREFIX + link.mac.replaceAll(":", "");
  await removeOrphans(nft);
  await runProgram(nft, ["-f", "-"], { input: ruleset(table, link, ports) });
  const tally = createTally();
  return {
    count: async (isLast) => tally(await look(), isLast),
    remove: async () => {
      // Its link is gone: what is left of it would be nobody's, and goes with the next one.
      await runProgram(nft, ["delete", "table", "inet", table]).catch(() => {});
    },
  };

  async function look(): Promise<string> {
    try {
      const json = await runProgram(nft, ["-j", "list", "table", "inet", table]);
      const { nftables } = JSON.parse(json) as Listing;
      if (nftables.some(({ rule }) => rule !== undefined)) return json;
    } catch (error) {
      // nft that does not run says nothing of the table.
      if (!/No such file or directory/.test(messageOf(error))) throw error;
    }
    throw new FirewallGone(`the nftables table ${table} was removed or emptied from outside`);
  }
}

/** What guarded the link is not there, and was not removed by us. */
export class FirewallGone extends Error {
  override readonly name = "FirewallGone";
}

/** Tables of links that are no more: their worker-agent was killed. */
async function removeOrphans(nft: string): Promise<void> {
  // First the tables, then the links: a table is made after its link, and goes before it.
  const listed = JSON.parse(await runProgram(nft, ["-j", "list", "tables"])) as Listing;
  const macs = await addressesOfLinks();
  for (const { table } of listed.nftables) {
    const hex = table?.name.startsWith(PREFIX) ? table.name.slice(PREFIX.length) : null;
    if (table?.family !== "inet" || hex === null) continue;
    if (macs.has(hex.match(/../g)?.join(":") ?? "")) continue;
    // Another worker-agent may have been quicker.
    await runProgram(nft, ["delete", "table", "inet", table.name]).catch(() => {});
  }
}

/** Of those that are down too: such a link still needs its table. */
async function addressesOfLinks(): Promise<ReadonlySet<string>> {
  const macs = new Set<string>();
  for (const name of await readdir(LINKS)) {
    // A link may go while we look, and some entries are no links.
    const mac = await readFile(join(LINKS, name, "address"), "utf8").catch(() => "");
    macs.add(mac.trim());
  }
  return macs;
}

/** In one transaction: there is no moment in which half of it holds. */
function ruleset(table: string, link: Link, ports: readonly number[]): string {
  const set = (version: 4 | 6) =>
    `set dropped${version} { type ipv${version}_addr . inet_proto . inet_service; ` +
    `flags dynamic; counter; size ${DESTINATIONS_MAX}; }`;
  // An addition to a full set ends its rule alone: the verdict is in a rule of its own.
  const count = (protocols: string, family: "ip" | "ip6", version: 4 | 6, port: string) =>
    `meta l4proto ${protocols} ${family} version ${version} ` +
    `add @dropped${version} { ${family} daddr . meta l4proto . ${port} }`;
  return `table inet ${table} {
  ${set(4)}
  ${set(6)}
  counter refused { }
  chain guard {
    type filter hook prerouting priority raw; policy accept;
    iifname != "${link.name}" accept
    ip saddr ${link.innerAddress} ip daddr ${link.hostAddress} tcp dport { ${ports.join(", ")} } accept
    # The kernel's own talk with its neighbours, whose addresses both ends know already.
    ip6 hoplimit { 1, 255 } icmpv6 type { 131, 132, 133, 135, 136, 143 } drop
    ${count(WITH_PORTS, "ip", 4, "th dport")}
    ${count(WITH_PORTS, "ip6", 6, "th dport")}
    ${count(`!= ${WITH_PORTS}`, "ip", 4, "0")}
    ${count(`!= ${WITH_PORTS}`, "ip6", 6, "0")}
    counter name refused
    meta l4proto tcp reject with tcp reset
    reject with icmpx admin-prohibited
  }
}
`;
}

interface Listing {
  readonly nftables: readonly {
    readonly rule?: object;
    readonly table?: { readonly family: string; readonly name: string };
    readonly set?: { readonly name: string; readonly elem?: readonly { readonly elem: Counted }[] };
    readonly counter?: { readonly name: string; readonly packets: number };
  }[];
}

interface Counted {
  readonly val: { readonly concat: readonly (string | number)[] };
  readonly counter: { readonly packets: number };
}

/** Reads what nft lists, and answers what came since it was last asked: bounded for ever. */
export function createTally(): (json: string, isLast?: boolean) => Dropped[] {
  const told = new Map<string, { packets: number; times: number }>();
  let toldPackets = 0;
  let isEnding = false;
  return (json, isLast = false) => {
    isEnding = isLast;
    const { nftables } = JSON.parse(json) as Listing;
    const news: Dropped[] = [];
    for (const { set, counter } of nftables) {
      for (const { elem } of set?.elem ?? []) news.push(...newsOf(elem));
      if (counter?.name !== "refused") continue;
      // What no destination was counted for, as long as there is room to say so.
      const { packets } = counter;
      const rest = packets - toldPackets - sum(news);
      if (told.size >= TOLD_DESTINATIONS_MAX && rest > 0) {
        news.push(...newsOf(others(restBefore() + rest)));
      }
    }
    toldPackets += sum(news);
    return news;
  };

  function restBefore(): number {
    return told.get("any *")?.packets ?? 0;
  }

  function newsOf({ val, counter }: Counted): Dropped[] {
    const [address = "", protocol = "", port = 0] = val.concat;
    const host = String(address).includes(":") ? `[${address}]` : String(address);
    const destination = Number(port) === 0 ? String(address) : `${host}:${port}`;
    const key = `${protocol} ${destination}`;
    const before = told.get(key) ?? { packets: 0, times: 0 };
    const packets = counter.packets - before.packets;
    const isNew = before.times === 0 && destination !== "*";
    // Where there are too many destinations, the sum of the rest has what was not told.
    const mayEnd = isEnding && (told.size < TOLD_DESTINATIONS_MAX || destination === "*");
    if (packets <= 0 || (before.times >= TOLD_TIMES_MAX && !mayEnd)) return [];
    if (isNew && told.size >= TOLD_DESTINATIONS_MAX) return [];
    told.set(key, { packets: counter.packets, times: before.times + 1 });
    return [{ destination, protocol: String(protocol), packets }];
  }
}

function others(packets: number): Counted {
  return { val: { concat: ["*", "any", 0] }, counter: { packets } };
}

function sum(drops: readonly Dropped[]): number {
  return drops.reduce((total, { packets }) => total + packets, 0);
}
