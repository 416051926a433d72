/** Costs of a shard and of a whole run. */
import { z } from "zod";
import { countSchema } from "./scalars.ts";
import { IDLE_CAUSES } from "./telemetry.ts";

/** Idle time of the device by cause, in milliseconds; the parts of `idleMs`. */
const idleSchema = z.partialRecord(z.enum(IDLE_CAUSES), z.number().min(0)).default({});

/** Costs of one shard. Every figure adds up over shards, so totals need no separate record. */
export const shardStatsSchema = z
  .strictObject({
    rows: countSchema.describe("Number of rows."),
    rejects: countSchema.describe("Number of documents and rows that were refused."),
    realTokens: countSchema.describe("Number of tokens that went through the model, without padding."),
    paddedTokens: countSchema.describe(
      "Number of tokens that the model computed for the shard's rows: for each row, the longest row of its batch.",
    ),
    batches: countSchema.describe("Number of batches whose first row belongs to the shard."),
    deviceMs: z
      .number()
      .min(0)
      .describe("The shard's share, by padded area, of the device's working time in milliseconds."),
    idleMs: z
      .number()
      .min(0)
      .describe("The shard's share of the time in milliseconds that the device waited while the worker held jobs."),
    idle: idleSchema.describe("The parts of `idleMs` by cause, in milliseconds."),
    made: z
      .strictObject({
        worker: z.string().max(256).describe("Name of the worker."),
        loadMs: z.number().min(0).describe("Time in milliseconds that reading the staged rows took."),
        firstBatchAtMs: z
          .number()
          .min(0)
          .describe("Time at which the first batch began, in milliseconds since the epoch."),
        lastBatchAtMs: z
          .number()
          .min(0)
          .describe("Time at which the last batch ended, in milliseconds since the epoch."),
        assembleMs: z.number().min(0).describe("Time in milliseconds that assembling the results took."),
      })
      .optional()
      .describe("Worker and times of the computation; used by reports and left out of sums."),
  })
  .meta({
    title: "embedfleet.stats of a result file",
    description: "Cost of one shard, kept in its result file's metadata. All figures but `made` add up over shards.",
  });
/** Costs of one shard. */
export type ShardStats = z.infer<typeof shardStatsSchema>;

/** Sums over a run's files; times are in milliseconds. */
export const totalsSchema = z
  .strictObject({
    documents: countSchema.describe("Number of documents, rejects included."),
    rows: countSchema.describe("Number of rows."),
    rejects: countSchema.describe("Number of documents and rows that were refused."),
    shards: countSchema.describe("Number of shards."),
    files: countSchema.describe("Number of result files."),
    bytes: countSchema.describe("Size of all result files in bytes."),
    batches: countSchema.describe("Number of batches that went through the model."),
    realTokens: countSchema.describe("Number of tokens that went through the model, without padding."),
    paddedTokens: countSchema.describe("Number of tokens that the model computed, padding included."),
    deviceMs: z.number().min(0).describe("Working time of the device in milliseconds."),
    idleMs: z.number().min(0).describe("Time in milliseconds that the device waited while the worker held jobs."),
    idle: idleSchema.describe("The parts of `idleMs` by cause, in milliseconds."),
    unchanged: countSchema.optional().describe("In a delta: number of documents that the base holds unchanged."),
    deletes: countSchema.optional().describe("In a delta: number of rows that it deletes from its base."),
  })
  .meta({ id: "Totals", title: "Totals", description: "Sums over a run's result files." });
/** Sums of a sealed run. */
export type Totals = z.infer<typeof totalsSchema>;
