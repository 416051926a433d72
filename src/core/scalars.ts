/** Ids, digests and counts, in the format of every record. */
import { z } from "zod";

/** Version of every record and file that has no version of its own; readers refuse another. */
export const CONTRACT_VERSION = 1;
export const versionSchema = z.literal(CONTRACT_VERSION);

/** Id of a run: no slash, no `..`, nothing that needs escaping in a URL or a shell. */
export const runIdSchema = z
  .string()
  .regex(
    /^[A-Za-z0-9](?:[A-Za-z0-9_-]|\.(?!\.)){0,63}$/,
    "1 to 64 letters, digits, '-', '_' or single '.', starting with a letter or digit",
  )
  .meta({ id: "RunId", title: "run id" });
export const windowIdSchema = z
  .string()
  .regex(/^w\d{6}$/)
  .meta({ id: "WindowId", title: "window id" });
export const shardIdSchema = z
  .string()
  .regex(/^w\d{6}-s\d{4}$/)
  .meta({ id: "ShardId", title: "shard id" });
export const storeIdSchema = z
  .string()
  .regex(/^[0-9a-f]{24}$/)
  .meta({ id: "StoreId", title: "store id" });
export const sha256Schema = z
  .string()
  .regex(/^[0-9a-f]{64}$/)
  .meta({ id: "Sha256", title: "SHA-256, hex" });
export const countSchema = z.int().min(0);

/** A number of documents, or a share of them such as `"10%"`. */
export const limitSchema = z.union([
  countSchema,
  z.string().regex(/^(?:100|\d{1,2})(?:\.\d{1,6})?%$/, "a whole number, or a share from 0% to 100%"),
]);
/** A number of documents, or a share of them. */
export type Limit = z.infer<typeof limitSchema>;
