/** Current time by the clock that dates a store's objects. */
import { randomUUID } from "node:crypto";
import { FleetError } from "../core/errors.ts";
import type { ObjectStore } from "../core/ports.ts";

/** Writes an object, reads its date and removes it. @returns Milliseconds since the epoch. */
export async function storeNowMs(store: ObjectStore): Promise<number> {
  const key = `.probe/${randomUUID()}/clock`;
  await store.create({ key, body: new Uint8Array(0) });
  try {
    const written = await store.stat({ key });
    if (written !== null) return written.modifiedAtMs;
    throw new FleetError("store_unavailable", `${store.url}/${key} was created but does not exist`);
  } finally {
    await store.remove({ key });
  }
}
