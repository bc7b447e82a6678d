/**
 * Addresses that are not on the Internet: ours, our host's, or of a network that a worker is in.
 * The ranges are those of IANA's special-purpose registries; of IPv6 only what is given out as
 * global unicast (2000::/3) may be reached, less what stands for an IPv4 address in it. Pure.
 */
import { BlockList, isIPv4, isIPv6 } from "node:net";

/** Reached when a rule names the host and says `is_private`. */
const PRIVATE = ranges(
  ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "127.0.0.0/8"],
  ["::1/128", "fc00::/7"],
);

/** Reached only when the rule names the address itself: metadata services, and what is no host. */
const LITERAL_ONLY = ranges(
  [
    "0.0.0.0/8",
    "169.254.0.0/16",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
    // Clouds' own services at addresses that look public, or private.
    "168.63.129.16/32",
    "100.100.100.200/32",
  ],
  ["2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", "fe80::/10", "fd00:ec2::254/128"],
);
const GLOBAL = ranges([], ["2000::/3"]);

/** `public`; `private`: rules that name the host and say so; `literal`: that name the address. */
export type AddressClass = "public" | "private" | "literal";

/** @throws RangeError for what is no address: nothing of a resolver's is taken on trust. */
export function classOf(address: string): AddressClass {
  if (isIPv4(address)) {
    if (LITERAL_ONLY.check(address, "ipv4")) return "literal";
    return PRIVATE.check(address, "ipv4") ? "private" : "public";
  }
  if (!isIPv6(address)) throw new RangeError(`no address: ${address.slice(0, 100)}`);
  const [plain = ""] = address.split("%");
  if (LITERAL_ONLY.check(plain, "ipv6")) return "literal";
  if (PRIVATE.check(plain, "ipv6")) return "private";
  return GLOBAL.check(plain, "ipv6") ? "public" : "literal";
}

/** As two writings of an address are compared. */
export function canonicalAddress(address: string): string {
  return isIPv6(address) ? new URL(`http://[${address.split("%")[0]}]/`).hostname : address;
}

function ranges(ipv4: readonly string[], ipv6: readonly string[]): BlockList {
  const list = new BlockList();
  for (const [family, texts] of [["ipv4", ipv4] as const, ["ipv6", ipv6] as const]) {
    for (const text of texts) {
      const [net = "", bits = ""] = text.split("/");
      list.addSubnet(net, Number(bits), family);
    }
  }
  return list;
}
