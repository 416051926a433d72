/**
 * Access control. Reading is free on this machine unless a token was set, and needs the token elsewhere. Changing a
 * run always needs the token, in a header that no other site's page can make a browser send.
 */
import { createHmac, hash, randomBytes, timingSafeEqual } from "node:crypto";
import type { Context, MiddlewareHandler } from "hono";
import { getCookie } from "hono/cookie";
import { FleetError } from "../core/errors.ts";
import { isLoopback } from "./listen.ts";

/** Cookie that lets the raw queues' page, which cannot send the header, read. It grants nothing else. */
export const QUEUES_COOKIE = "embedfleet_queues";

/** Reading methods; a router answers HEAD like GET. */
const READING = new Set(["GET", "HEAD"]);

export class Access {
  /** Token that an action requires; random if none was set. */
  readonly token: string;
  readonly #readsAreOpen: boolean;
  readonly #isLocal: boolean;

  /** @throws FleetError `bad_usage` beyond loopback without a token. */
  constructor(params: Readonly<{ host: string; token: string | undefined }>) {
    const { host, token } = params;
    this.#isLocal = isLoopback(host);
    if (token === undefined && !this.#isLocal) {
      throw new FleetError("bad_usage", `${host} can be reached from other machines, but no token is set`, {
        cure: "set EMBEDFLEET_TOKEN (or --token) to a secret, or listen on 127.0.0.1",
      });
    }
    if (token !== undefined && token.length < 12) {
      throw new FleetError("bad_usage", `the token has ${token.length} characters and can be guessed`, {
        cure: "use at least 12; `openssl rand -hex 24` makes a good one",
      });
    }
    this.#readsAreOpen = this.#isLocal && token === undefined;
    this.token = token ?? randomBytes(24).toString("hex");
  }

  /** Checks the Host header, against pages whose own name points at this machine (DNS rebinding). */
  readonly checkHost: MiddlewareHandler = async (c, next) => {
    const name = new URL(c.req.url).hostname.replace(/^\[|\]$/g, "");
    if (this.#isLocal && !isLoopback(name)) return refuse(c, 403, `this is not ${name}`);
    return next();
  };

  readonly forReading: MiddlewareHandler = async (c, next) => {
    if (!this.#readsAreOpen && !this.#showsToken(c)) return refuse(c, 401, "the token is missing or wrong");
    return next();
  };

  /** Decides by the method: any but a reading one may change something, whatever its path. */
  readonly forApi: MiddlewareHandler = async (c, next) => {
    if (READING.has(c.req.method)) return this.forReading(c, next);
    if (!this.#showsToken(c)) return refuse(c, 401, "the token is missing or wrong");
    return next();
  };

  readonly forQueues: MiddlewareHandler = async (c, next) => {
    const shown = getCookie(c, QUEUES_COOKIE) ?? "";
    if (!this.#readsAreOpen && !isSame(shown, this.queuesPass) && !this.#showsToken(c))
      return refuse(c, 401, "open the queues from the dashboard, which knows the token");
    return next();
  };

  /** Value of the cookie: a proof of the token, not the token. */
  get queuesPass(): string {
    return createHmac("sha256", this.token).update(QUEUES_COOKIE).digest("hex");
  }

  #showsToken(c: Context): boolean {
    return isSame(c.req.header("authorization") ?? "", `Bearer ${this.token}`);
  }
}

/** Compares digests in constant time, so that neither content nor length can be learnt from the duration. */
function isSame(a: string, b: string): boolean {
  return timingSafeEqual(hash("sha256", a, "buffer"), hash("sha256", b, "buffer"));
}

function refuse(c: Context, status: 401 | 403, message: string): Response {
  if (status === 401) c.header("www-authenticate", 'Bearer realm="embedfleet"');
  return c.json({ error: { code: "refused", message, cure: "send the token: Authorization: Bearer …" } }, status);
}
