/** JSON records of the store: one format for writing, schemas for reading. */
import type { z } from "zod";
import { PLAN_VERSION } from "./contracts.ts";
import { FleetError, hasCode, messageOf } from "./errors.ts";
import type { ObjectStore } from "./ports.ts";

/** Size limit of small JSON records; a plan of 4,096 shards is about 1 MB. */
export const MAX_RECORD_BYTES = 1024 * 1024;

/**
 * Distinguishes a record of a newer version from a damaged one: the former is valid, and newer programs can read it.
 * @param name Source of the record, for the message.
 * @throws FleetError `contract_newer`
 */
export function assertContractKnown(version: unknown, name: string): void {
  if (!Number.isInteger(version) || (version as number) <= PLAN_VERSION) return;
  throw new FleetError(
    "contract_newer",
    `${name} has contract version ${String(version)}; this program supports versions up to ${PLAN_VERSION}`,
    { cure: "install the version of embedfleet here that the run was enqueued with" },
  );
}

/** JSON as UTF-8: deterministic for the same value, and indented for people who inspect the store. */
export function toJsonBytes(value: unknown): Uint8Array {
  return Buffer.from(`${JSON.stringify(value, null, 1)}\n`);
}

/** @throws FleetError `object_missing`, `object_corrupt`, `contract_newer` */
export async function readRecord<T>(
  store: ObjectStore,
  key: string,
  schema: z.ZodType<T>,
  maxBytes = MAX_RECORD_BYTES,
): Promise<T> {
  return parseRecord(await store.read({ key, maxBytes }), { schema, name: `${store.url}/${key}` });
}

/** @throws FleetError `object_corrupt`; `contract_newer` for a record of a newer version */
export function parseRecord<T>(bytes: Uint8Array, params: Readonly<{ schema: z.ZodType<T>; name: string }>): T {
  const { schema, name } = params;
  try {
    const value: unknown = JSON.parse(Buffer.from(bytes).toString("utf8"));
    assertContractKnown((value as { version?: unknown } | null)?.version, name);
    return schema.parse(value);
  } catch (error) {
    if (hasCode(error, "contract_newer")) throw error;
    throw new FleetError("object_corrupt", `${name} does not match its schema: ${messageOf(error)}`, {
      cure: "it was changed after it was written, or by another version of embedfleet",
      cause: error,
    });
  }
}

/** The record, or null when the object does not exist. */
export async function findRecord<T>(
  store: ObjectStore,
  key: string,
  schema: z.ZodType<T>,
  maxBytes = MAX_RECORD_BYTES,
): Promise<T | null> {
  const found = await store.stat({ key });
  return found === null ? null : readRecord(store, key, schema, maxBytes);
}
