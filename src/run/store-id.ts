/**
 * The identity of a store: an id in the store itself, so that every address that leads to the store (a folder, another
 * mount of it, an `s3://` URL) has the same one. The names of its queues contain it.
 */
import { randomBytes } from "node:crypto";
import { CONTRACT_VERSION, storeRecordSchema } from "../core/contracts.ts";
import { FleetError, hasCode } from "../core/errors.ts";
import { findRecord, readRecord, toJsonBytes } from "../core/json.ts";
import { STORE_KEY } from "../core/layout.ts";
import type { ObjectStore } from "../core/ports.ts";

/** Length that `storeIdSchema` demands. */
const ID_BYTES = 12;

/**
 * The store's id; null before the first command that writes to it. Changes nothing, for read-only commands.
 * @throws FleetError `object_corrupt`
 */
export async function findStoreId(store: ObjectStore): Promise<string | null> {
  return (await withCure(store, () => findRecord(store, STORE_KEY, storeRecordSchema)))?.id ?? null;
}

/** The store's id, which is created when there is none: of several processes that do so at once, one wins. @throws FleetError `object_corrupt` */
export async function ensureStoreId(store: ObjectStore): Promise<string> {
  const found = await findStoreId(store);
  if (found !== null) return found;
  const record = { version: CONTRACT_VERSION, id: randomBytes(ID_BYTES).toString("hex") };
  await store.create({ key: STORE_KEY, body: toJsonBytes(storeRecordSchema.parse(record)) });
  // Read back even if it was created: the id in the store is the one that all others use.
  return (await withCure(store, () => readRecord(store, STORE_KEY, storeRecordSchema))).id;
}

async function withCure<T>(store: ObjectStore, read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (error) {
    if (!hasCode(error, "object_corrupt")) throw error;
    throw new FleetError("object_corrupt", error.message, {
      cure: `stop the fleet and delete ${store.url}/${STORE_KEY}: the next command creates it again, and workers queue again what is missing`,
      cause: error,
    });
  }
}
