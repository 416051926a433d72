/** Signatures that prove a schedule's origin, with a secret that writers to the store do not know. */
import { createHmac, timingSafeEqual } from "node:crypto";
import type { Schedule } from "../../core/schedule.ts";

/** Domain separation: a signature for this purpose is not valid for any other use of the secret. */
const PURPOSE = "embedfleet schedule v1\n";

/** HMAC-SHA256 with the secret over all fields of the schedule. */
export function signSchedule(schedule: Schedule, secret: string): Schedule {
  return { ...schedule, signature: signatureOf(schedule, secret) };
}

export function isSignedWith(schedule: Schedule, secret: string): boolean {
  const wanted = Buffer.from(signatureOf(schedule, secret));
  const given = Buffer.from(schedule.signature ?? "");
  return wanted.length === given.length && timingSafeEqual(wanted, given);
}

function signatureOf(schedule: Schedule, secret: string): string {
  const said = canonicalJson({ ...schedule, signature: undefined });
  return `v1=${createHmac("sha256", secret).update(`${PURPOSE}${said}`).digest("hex")}`;
}

/** Canonical JSON: independent of the order of fields, without undefined ones. */
function canonicalJson(value: unknown): string {
  return JSON.stringify(value, (_, inner: unknown) =>
    typeof inner === "object" && inner !== null && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).toSorted(([a], [b]) => (a < b ? -1 : 1)))
      : inner,
  );
}
