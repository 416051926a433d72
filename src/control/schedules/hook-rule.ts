/** The hosts that a webhook may reach, by the name in its URL and by every address that the name resolves to. */
import type { LookupAddress } from "node:dns";
import { lookup } from "node:dns/promises";
import { isIP } from "node:net";
import { FleetError, messageOf } from "../../core/errors.ts";
import { canonicalAddress, reachOf } from "./addresses.ts";

/** Resolves a name to all of its addresses. */
export type Resolve = (host: string) => Promise<LookupAddress[]>;

interface Entry {
  /** Host as in URLs; `*.example.com` for all of its subdomains. */
  readonly host: string;
  /** Null for any port. */
  readonly port: string | null;
}

const CURE = "if the host is intended, add it to --webhook-hosts of control";

export class HookRule {
  readonly #entries: readonly Entry[];
  readonly #isAnyHost: boolean;
  readonly #resolve: Resolve;

  /**
   * @param params.hosts Names, `*.names` and addresses, with a port or for any: they may be notified, even in a
   *   private network. A link-local address must be named itself.
   * @param params.isAnyHost Whether any other host of the internet may be notified, too.
   */
  constructor(params: Readonly<{ hosts: readonly string[]; isAnyHost: boolean; resolve?: Resolve }>) {
    this.#entries = params.hosts.map(parseHost);
    this.#isAnyHost = params.isAnyHost;
    this.#resolve = params.resolve ?? ((host) => lookup(host, { all: true }));
  }

  /**
   * @returns The only addresses to connect to: the name may resolve to another one a moment later.
   * @throws FleetError `schedule_refused`, `webhook_failed` for a name that does not resolve
   */
  async addressesOf(url: URL): Promise<LookupAddress[]> {
    const host = hostOf(url);
    const isListed = this.#lists(host, url);
    if (!isListed && !this.#isAnyHost)
      throw refused(url, "the schedule is not signed, and the host is not one of --webhook-hosts");
    const addresses = await this.#addresses(host, url);
    const inner = addresses.find(({ address }) => !this.#mayReach(address, isListed, url));
    if (inner === undefined) return addresses;
    throw refused(url, `it is ${inner.address}, an address of this machine, a private or a link-local network`);
  }

  #mayReach(address: string, isListed: boolean, url: URL): boolean {
    const reach = reachOf(address);
    if (reach === "public" || (reach === "inner" && isListed)) return true;
    return this.#lists(canonicalAddress(address) ?? "", url);
  }

  #lists(host: string, url: URL): boolean {
    const port = url.port === "" ? (url.protocol === "https:" ? "443" : "80") : url.port;
    return this.#entries.some(
      (entry) =>
        (entry.port ?? port) === port &&
        (entry.host === host || (entry.host.startsWith("*.") && host.endsWith(entry.host.slice(1)))),
    );
  }

  async #addresses(host: string, url: URL): Promise<LookupAddress[]> {
    const family = isIP(host);
    if (family !== 0) return [{ address: host, family }];
    const found = await this.#resolve(host).catch((cause: unknown) => {
      throw new FleetError("webhook_failed", `the webhook at ${url.host} cannot be reached: ${messageOf(cause)}`, {
        cause,
      });
    });
    if (found.length > 0) return found;
    throw new FleetError("webhook_failed", `the webhook at ${url.host} cannot be reached: the name has no address`);
  }
}

/** The host in lower case, numbers in their usual form (from the URL's parser), without brackets and trailing dot. */
function hostOf({ hostname }: URL): string {
  return canonicalAddress(hostname) ?? hostname.replace(/\.$/, "");
}

/** @throws FleetError `bad_usage` */
function parseHost(text: string): Entry {
  const address = canonicalAddress(text);
  if (address !== null) return { host: address, port: null };
  const [, wild = "", name = "", port = null] = /^(\*\.)?([^*/@?#]+?)(?::(\d+))?$/.exec(text) ?? [];
  if (!URL.canParse(`http://${name}`))
    throw new FleetError("bad_usage", `--webhook-hosts ${JSON.stringify(text)} is not a host`, {
      cure: "use a name, *.name or an address, with or without :port: hooks.example.com 10.1.2.3:8080",
    });
  return { host: wild + hostOf(new URL(`http://${name}`)), port };
}

function refused(url: URL, why: string): FleetError {
  return new FleetError("schedule_refused", `the webhook at ${url.host} is not called: ${why}`, { cure: CURE });
}
