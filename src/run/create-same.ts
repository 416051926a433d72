/** Objects that every repetition of the work must write identically. */
import { FleetError } from "../core/errors.ts";
import type { ObjectStore } from "../core/ports.ts";

/**
 * Creates the object. An existing one, left by a killed process or written by another, must be identical byte for byte.
 * @throws FleetError `run_conflict`
 */
export async function createSame(
  store: ObjectStore,
  params: Readonly<{ key: string; body: Uint8Array; cure: string }>,
): Promise<void> {
  const { key, body, cure } = params;
  if ((await store.create({ key, body })) === "created") return;
  // The size first: an object of another corpus may have any size.
  const bytes = (await store.stat({ key }))?.bytes;
  if (bytes === body.length && Buffer.compare(await store.read({ key }), body) === 0) return;
  throw new FleetError("run_conflict", `${store.url}/${key} exists with other content`, { cure });
}

/** The fault of a store that acknowledges a write and then lacks the object or returns another one. */
export function notStored(store: ObjectStore, key: string, cause?: unknown): FleetError {
  const found = `${store.url}/${key} was acknowledged as written, but the store does not return it`;
  return new FleetError("store_unavailable", found, {
    cure: "repeat the command to write missing objects again; if it happens again, do not use this store",
    cause,
  });
}
