/** Whose schedule it is: a signature with a secret that whoever can write to the store does not know. */
import { createHmac, timingSafeEqual } from "node:crypto";
import type { Schedule } from "../../core/schedule.ts";

/** A signature of this kind means nothing else, wherever else the secret is used. */
const PURPOSE = "embedfleet schedule v1\n";

/** HMAC-SHA256 with the secret over everything that the schedule says. */
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

/** The same text for the same value, whatever the order of its fields; a field that is undefined is not there. */
function canonicalJson(value: unknown): string {
  return JSON.stringify(value, (_, inner: unknown) =>
    typeof inner === "object" && inner !== null && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).toSorted(([a], [b]) => (a < b ? -1 : 1)))
      : inner,
  );
}
