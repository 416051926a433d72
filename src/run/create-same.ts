/** Objects that whoever repeats the work must write alike. */
import { FleetError } from "../core/errors.ts";
import type { ObjectStore } from "../core/ports.ts";

/**
 * Creates the object. One that is there must be the same to the byte: left by a process that was killed, or
 * made by another.
 * @throws FleetError `run_conflict`
 */
export async function createSame(
  store: ObjectStore,
  params: Readonly<{ key: string; body: Uint8Array; cure: string }>,
): Promise<void> {
  const { key, body, cure } = params;
  if ((await store.create({ key, body })) === "created") return;
  // The size first: what another corpus left may be of any size.
  const bytes = (await store.stat({ key }))?.bytes;
  if (bytes === body.length && Buffer.compare(await store.read({ key }), body) === 0) return;
  throw new FleetError("run_conflict", `${store.url}/${key} exists with other content`, { cure });
}

/** A store that acknowledges a write and does not have it, or has something else. */
export function notStored(store: ObjectStore, key: string, cause?: unknown): FleetError {
  const found = `${store.url}/${key} was acknowledged when it was written, and the store does not give it back`;
  return new FleetError("store_unavailable", found, {
    cure: "repeat the command: what is missing is written again; if it happens again, do not use this store",
    cause,
  });
}
