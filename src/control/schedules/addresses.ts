/** The addresses that a webhook may reach: addresses inside a network are not for everyone who can write a URL. */
import { BlockList, isIP } from "node:net";

/**
 * - `public`: on the internet.
 * - `inner`: this machine or a private network.
 * - `never`: link-local addresses, where clouds serve credentials, and addresses of no machine.
 */
export type Reach = "public" | "inner" | "never";

const INNER4 = ["10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"];
const NEVER4 = [
  "0.0.0.0/8",
  // Metadata services of clouds that do not use a link-local address.
  "100.100.100.200/32",
  "168.63.129.16/32",
  "169.254.0.0/16",
  "192.0.0.0/24",
  "192.0.2.0/24",
  "192.88.99.0/24",
  "198.18.0.0/15",
  "198.51.100.0/24",
  "203.0.113.0/24",
  "224.0.0.0/4",
  "240.0.0.0/4",
];
/** Metadata services inside a range that is otherwise private. */
const NEVER6 = ["fd00:ec2::254/128", "fd20:ce::254/128"];
const INNER6 = ["::1/128", "fc00::/7"];
/** All public IPv6 addresses are in 2000::/3; these parts of it are not public. */
const PUBLIC6 = ["2000::/3"];
const SPECIAL6 = ["2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"];
/** Ranges whose last four bytes are the IPv4 address that is meant. */
const WITH_IPV4 = ["::ffff:0:0/96", "64:ff9b::/96"];

const inner4 = listOf(INNER4);
const never4 = listOf(NEVER4);
const never6 = listOf(NEVER6);
const inner6 = listOf(INNER6);
const public6 = listOf(PUBLIC6);
const special6 = listOf(SPECIAL6);
const withIpv4 = listOf(WITH_IPV4);

/** @param address As returned by a resolver: IPv4 or IPv6, without brackets. */
export function reachOf(address: string): Reach {
  if (isIP(address) === 4) return reachOf4(address);
  const groups = groupsOf(address);
  if (groups === null) return "never";
  const plain = groups.map((group) => group.toString(16)).join(":");
  if (holds(withIpv4, plain)) return reachOf4(lastFour(groups));
  if (holds(never6, plain)) return "never";
  if (holds(inner6, plain)) return "inner";
  return holds(public6, plain) && !holds(special6, plain) ? "public" : "never";
}

function reachOf4(address: string): Reach {
  if (never4.check(address)) return "never";
  return inner4.check(address) ? "inner" : "public";
}

/** A canonical text of the address, for comparisons; null for text that is not an address. */
export function canonicalAddress(text: string): string | null {
  const bare = text.replace(/^\[|\]$/g, "");
  if (isIP(bare) === 4) return bare;
  const groups = groupsOf(bare);
  if (groups === null) return null;
  const plain = groups.map((group) => group.toString(16)).join(":");
  return holds(withIpv4, plain) ? lastFour(groups) : plain;
}

function listOf(subnets: readonly string[]): BlockList {
  const list = new BlockList();
  for (const subnet of subnets) {
    const [address = "", bits = ""] = subnet.split("/");
    list.addSubnet(address, Number(bits), isIP(address) === 4 ? "ipv4" : "ipv6");
  }
  return list;
}

function holds(list: BlockList, address: string): boolean {
  return list.check(address, "ipv6");
}

function lastFour(groups: readonly number[]): string {
  return [groups[6]! >> 8, groups[6]! & 255, groups[7]! >> 8, groups[7]! & 255].join(".");
}

/** The eight groups of an IPv6 address, or null. A zone (`%eth0`) names a link and is not part of the address. */
function groupsOf(text: string): number[] | null {
  const address = text.replace(/%.*$/, "");
  if (isIP(address) !== 6) return null;
  const dotted = /^(.*:)(\d+)\.(\d+)\.(\d+)\.(\d+)$/.exec(address);
  const pair = (high: string, low: string): string => ((Number(high) << 8) | Number(low)).toString(16);
  const hex = dotted === null ? address : `${dotted[1]}${pair(dotted[2]!, dotted[3]!)}:${pair(dotted[4]!, dotted[5]!)}`;
  const [head = "", tail] = hex.split("::");
  const before = head === "" ? [] : head.split(":");
  const after = tail === undefined || tail === "" ? [] : tail.split(":");
  const zeros = Array.from({ length: 8 - before.length - after.length }, () => "0");
  return [...before, ...(tail === undefined ? [] : zeros), ...after].map((group) => Number.parseInt(group, 16));
}
