/** Telling someone's server of a run that is sealed or has failed. */
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
  /** The same for the same event, however often it is told. */
  readonly id: string;
  readonly event: "run.sealed" | "run.failed";
  readonly schedule: string;
  readonly run: string;
  readonly at: string;
  readonly reason?: string;
  readonly totals?: Totals;
}

/** @throws FleetError `bad_usage` unless it is a http or https URL without user and password. */
export function assertWebhook(url: string): void {
  const parsed = URL.canParse(url) ? new URL(url) : null;
  const isHttp = parsed !== null && (parsed.protocol === "https:" || parsed.protocol === "http:");
  if (isHttp && parsed.username === "" && parsed.password === "") return;
  // Not repeated: it may have a secret in it.
  throw new FleetError("bad_usage", "the webhook is not a http or https URL without user and password", {
    cure: "give https://host/path; the receiver knows us by the signature, see EMBEDFLEET_WEBHOOK_SECRET",
  });
}

/** `t=<seconds>,v1=<hex>`: HMAC-SHA256 with the secret over `<seconds>.<body>`. */
export function signatureOf(secret: string, body: string, nowMs: number): string {
  const seconds = Math.floor(nowMs / 1000);
  return `t=${seconds},v1=${createHmac("sha256", secret).update(`${seconds}.${body}`).digest("hex")}`;
}

/** For receivers: whether the body is ours, and was signed less than `maxAgeMs` ago. */
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
 * @param params.rule Whom it may reach; the request goes to an address that it has looked at, whatever the name stands
 *   for by then.
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
      cure: "add the schedule with the URL that it leads to",
    });
  throw new FleetError("webhook_failed", `the webhook at ${url.host} answered ${status} to ${notice.id}`);
}

/** Of an agent of its own: no proxy, no connection that another request has opened. @returns The answer's status. */
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
  // Of a connection that breaks after the answer nothing is wanted any more.
  request.on("error", () => {}).end(body);
  const [response] = (await once(request, "response")) as [IncomingMessage];
  // What it has to say is of no interest, and may be endless.
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
