/** Schemas of small records that are written once: a store's identity, and decisions about a run. */
import { z } from "zod";
import { runIdSchema, storeIdSchema, versionSchema } from "./scalars.ts";

/** `store.json`: the identity of a store, whatever address it is reached by. */
export const storeRecordSchema = z
  .strictObject({
    version: versionSchema.describe("Format version; readers refuse any other."),
    id: storeIdSchema.describe("Random id. The names of the store's queues in Redis contain it."),
  })
  .meta({
    title: "store.json",
    description: "Identity of the store, created by the first command that queues, computes or schedules something.",
  });

/** `accepted.json`: a person has agreed to seal a run beyond its guards. */
export const acceptedRecordSchema = z
  .strictObject({
    version: versionSchema.describe("Format version; readers refuse any other."),
    run: runIdSchema.describe("Id of the run."),
    acceptedAt: z.iso.datetime().describe("Time at which the run was accepted."),
  })
  .meta({ title: "runs/<run>/accepted.json", description: "Written when a person accepts a held run." });
/** Written when a held run is accepted. */
export type AcceptedRecord = z.infer<typeof acceptedRecordSchema>;

/** `cancelled.json` */
export const cancelledRecordSchema = z
  .strictObject({
    version: versionSchema.describe("Format version; readers refuse any other."),
    run: runIdSchema.describe("Id of the run."),
    cancelledAt: z.iso.datetime().describe("Time at which the run was cancelled."),
  })
  .meta({ title: "runs/<run>/cancelled.json", description: "Written when a run is cancelled." });
/** Written when a run is cancelled. */
export type CancelledRecord = z.infer<typeof cancelledRecordSchema>;
