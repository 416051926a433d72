/** Notifies a server of a run that was sealed or has failed. */
import { createHmac, timingSafeEqual } from "node:crypto";
import type { LookupAddress } from "node:dns";
import { once } from "node:events";
import { type IncomingMessage, type OutgoingHttpHeaders, request as requestHttp } from "node:http";
import { request as requestHttps } from "node:https";
import type { LookupFunction } from "node:net";
import type { Totals } from "../../core/contracts.ts";
import { FleetError, messageOf } from "../../core/errors.ts";
import type { HookRule } from "./hook-rule.ts";

const TIMEOUT_MS = 10_000;
export const SIGNATURE_HEADER = "x-embedfleet-signature";

export interface Notice {
  /** Stable id of the event, equal in every attempt. */
  readonly id: string;
  readonly event: "run.sealed" | "run.failed";
  readonly schedule: string;
  readonly run: string;
  readonly at: string;
  readonly reason?: string;
  readonly totals?: Totals;
}

/** @throws FleetError `bad_usage` unless it is an http or https URL without user and password. */
export function assertWebhook(url: string): void {
  const parsed = URL.canParse(url) ? new URL(url) : null;
  const isHttp = parsed !== null && (parsed.protocol === "https:" || parsed.protocol === "http:");
  if (isHttp && parsed.username === "" && parsed.password === "") return;
  // The URL is not repeated, because it may contain a secret.
  throw new FleetError("bad_usage", "the webhook is not a http or https URL without user and password", {
    cure: "use https://host/path; the receiver authenticates us by the signature, see EMBEDFLEET_WEBHOOK_SECRET",
  });
}

/** Signature header `t=<seconds>,v1=<hex>`: HMAC-SHA256 with the secret over `<seconds>.<body>`. */
export function signatureOf(secret: string, body: string, nowMs: number): string {
  const seconds = Math.floor(nowMs / 1000);
  return `t=${seconds},v1=${createHmac("sha256", secret).update(`${seconds}.${body}`).digest("hex")}`;
}

/** For receivers: whether the body is authentic, and was signed less than `maxAgeMs` ago. */
export function isSigned(
  params: Readonly<{ secret: string; body: string; signature: string; nowMs: number; maxAgeMs: number }>,
): boolean {
  const { secret, body, signature, nowMs, maxAgeMs } = params;
  const seconds = Number(/^t=(\d+),/.exec(signature)?.[1] ?? Number.NaN);
  if (!(Math.abs(nowMs - seconds * 1000) <= maxAgeMs)) return false;
  const wanted = Buffer.from(signatureOf(secret, body, seconds * 1000));
  const given = Buffer.from(signature);
  return wanted.length === given.length && timingSafeEqual(wanted, given);
}

/**
 * @param params.rule The hosts it may reach; the request goes to an address that the rule has checked, even if the name
 *   resolves to another one by then.
 * @throws FleetError `schedule_refused`, `webhook_failed` unless the receiver answers with 2xx; redirects are not followed
 */
export async function sendNotice(
  params: Readonly<{ url: string; secret: string; notice: Notice; nowMs: number; rule: HookRule }>,
): Promise<void> {
  const { secret, notice, nowMs, rule } = params;
  assertWebhook(params.url);
  const url = new URL(params.url);
  const body = JSON.stringify(notice);
  const headers = {
    "content-type": "application/json",
    "content-length": Buffer.byteLength(body),
    [SIGNATURE_HEADER]: signatureOf(secret, body, nowMs),
  };
  const addresses = await rule.addressesOf(url);
  const status = await post({ url, headers, body, addresses }).catch((cause: unknown) => {
    throw new FleetError("webhook_failed", `the webhook at ${url.host} cannot be reached: ${messageOf(cause)}`, {
      cause,
    });
  });
  if (status >= 200 && status < 300) return;
  if (status >= 300 && status < 400)
    throw new FleetError("webhook_failed", `the webhook at ${url.host} cannot be reached: it redirects (${status})`, {
      cure: "add the schedule with the URL that it redirects to",
    });
  throw new FleetError("webhook_failed", `the webhook at ${url.host} answered ${status} to ${notice.id}`);
}

/** Posts with an agent of its own: no proxy and no reused connection. @returns The response's status. */
async function post(
  params: Readonly<{
    url: URL;
    headers: OutgoingHttpHeaders;
    body: string;
    addresses: readonly LookupAddress[];
  }>,
): Promise<number> {
  const { url, headers, body, addresses } = params;
  const request = (url.protocol === "https:" ? requestHttps : requestHttp)(url, {
    method: "POST",
    headers,
    agent: false,
    lookup: pinnedTo(addresses),
    signal: AbortSignal.timeout(TIMEOUT_MS),
  });
  // Errors of the connection after the response are ignored.
  request.on("error", () => {}).end(body);
  const [response] = (await once(request, "response")) as [IncomingMessage];
  // The response's body is ignored, and may be endless.
  response.on("error", () => {}).destroy();
  return response.statusCode ?? 0;
}

function pinnedTo(addresses: readonly LookupAddress[]): LookupFunction {
  return (_host, options, callback) => {
    if (options.all === true) return callback(null, [...addresses]);
    const [{ address, family }] = addresses as [LookupAddress];
    callback(null, address, family);
  };
}
