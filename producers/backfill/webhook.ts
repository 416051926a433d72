/** Telling someone's server of a run that is sealed or has failed. */
import { createHmac, timingSafeEqual } from "node:crypto";
import type { Totals } from "../../src/core/contracts.ts";
import { FleetError, messageOf } from "../../src/core/errors.ts";

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

/** @throws FleetError `webhook_failed` unless the receiver answers with 2xx; redirects are not followed. */
export async function sendNotice(
  params: Readonly<{ url: string; secret: string; notice: Notice; nowMs: number }>,
): Promise<void> {
  const { url, secret, notice, nowMs } = params;
  const body = JSON.stringify(notice);
  const headers = { "content-type": "application/json", [SIGNATURE_HEADER]: signatureOf(secret, body, nowMs) };
  const where = new URL(url).host;
  const answer = await fetch(url, {
    method: "POST",
    headers,
    body,
    redirect: "error",
    signal: AbortSignal.timeout(TIMEOUT_MS),
  }).catch((cause: unknown) => {
    throw new FleetError("webhook_failed", `the webhook at ${where} cannot be reached: ${messageOf(cause)}`, { cause });
  });
  await answer.body?.cancel();
  if (answer.ok) return;
  throw new FleetError("webhook_failed", `the webhook at ${where} answered ${answer.status} to ${notice.id}`);
}
