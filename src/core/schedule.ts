/** Nightly runs: the records of a schedule and of its ticks, and the ids of their runs. */
import { z } from "zod";
import {
  CONTRACT_VERSION,
  engineNameSchema,
  limitSchema,
  precisionSchema,
  runIdSchema,
  runOptionsSchema,
} from "./contracts.ts";
import { MAX_PROMPT_CHARS } from "./prompt.ts";

/** Name of a schedule, short enough that a compacted run's id, `<name>-<slot>-full`, is valid. */
export const scheduleNameSchema = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9_-]{0,39}$/, "1 to 40 letters, digits, '-' or '_', starting with a letter or digit");

export const overlapPolicySchema = z.enum(["wait", "skip"]);
export type OverlapPolicy = z.infer<typeof overlapPolicySchema>;

const { heads, vectors, maxTokens, chunking, chunkTokens, overlap, keepText, maxDocumentBytes } =
  runOptionsSchema.shape;
const { format, idField, textFields, where, sample, keep } = runOptionsSchema.shape;
const { delimiter, quote, escape, columns, generateId, clean } = runOptionsSchema.shape;

/**
 * Options that a schedule may contain: those of `enqueue` that decide which rows are produced from the corpus. Addresses
 * of the store, Redis and S3, notifications and resource limits belong to the process that creates the runs.
 */
export const scheduleOptionsSchema = z.strictObject({
  model: z
    .string()
    .min(1)
    .max(4096)
    .optional()
    .describe("Name of the model; only a signed schedule may name a folder by its path."),
  models: z.string().min(1).max(4096).optional().describe("Folder of models; only in a signed schedule."),
  precision: z
    .enum(["auto", ...precisionSchema.options])
    .optional()
    .describe("Precision of the weights."),
  engine: engineNameSchema.optional().describe("Inference engine; by default the one that the model's manifest names."),
  heads: heads.optional(),
  prompt: z
    .string()
    .max(MAX_PROMPT_CHARS)
    .optional()
    .describe("Name of one of the model's prompts, or a text with a blank or a colon in it; empty for none."),
  dim: z.int().min(1).optional().describe("Width of dense and ColBERT vectors."),
  vectors: vectors.unwrap().optional().describe("Number type of dense and ColBERT vectors in result files."),
  maxTokens: maxTokens.optional(),
  chunking: chunking.optional(),
  chunkTokens: chunkTokens.optional(),
  overlap: overlap.optional(),
  idField: idField.optional(),
  textField: textFields.optional(),
  format: format.optional(),
  delimiter,
  quote,
  escape,
  noHeader: z
    .boolean()
    .optional()
    .describe("Whether the first line of CSV and TSV is data; `columns` names the columns."),
  columns,
  generateId,
  clean,
  where: where.optional(),
  sample: sample.optional(),
  noFollow: z.boolean().optional().describe("Whether symbolic links within folders are passed over."),
  limit: z.int().min(1).optional().describe("Largest number of documents to take, the first of those chosen."),
  keep: keep.optional(),
  keepText: keepText.optional(),
  dedupe: z.boolean().optional().describe("Whether equal texts are embedded once."),
  allowBatchDependent: z
    .boolean()
    .optional()
    .describe("Whether a model is accepted whose vectors depend on the rows that share a batch."),
  maxDocumentBytes: maxDocumentBytes.optional(),
  maxRejects: limitSchema
    .optional()
    .describe("Most rejected documents: a number stops the run, a share of those read holds it."),
  maxDeletes: limitSchema
    .optional()
    .describe("Most documents of the base that the corpus may no longer have; beyond it the run is held."),
  strict: z.boolean().optional().describe("Whether the first rejected document stops the run."),
  maxBacklog: z.int().min(1).optional().describe("Number of queued jobs from which planning waits."),
});

const signatureSchema = z.string().regex(/^v1=[0-9a-f]{64}$/);

/** `schedules/<name>.json` */
export const scheduleSchema = z
  .strictObject({
    version: z.literal(CONTRACT_VERSION).describe("Format version; readers refuse any other."),
    name: scheduleNameSchema.describe("Name of the schedule."),
    createdAt: z.iso.datetime().describe("Time at which the schedule was added."),
    cron: z.string().max(200).describe("Cron pattern that says when runs begin."),
    tz: z.string().max(100).describe("Time zone in which the pattern is read."),
    overlapPolicy: overlapPolicySchema.describe("What happens at a tick while the previous run is still going."),
    webhook: z
      .url({ protocol: /^https?$/ })
      .max(4096)
      .nullable()
      .describe("URL that receives a signed POST for each run that is sealed or fails."),
    since: runIdSchema
      .nullable()
      .describe("Run that the first run builds on; each later run builds on the one before it."),
    inputs: z.array(z.string().min(1).max(4096)).min(1).max(1000).describe("Inputs as they were typed."),
    options: scheduleOptionsSchema.describe("Options of `enqueue`, under the program's own names."),
    signature: signatureSchema
      .optional()
      .describe(
        "HMAC over all other fields, made with the secret of whoever added the schedule; `src/control/schedules/signature.ts` computes it.",
      ),
  })
  .meta({ title: "schedules/<name>.json", description: "A schedule of recurring runs." });
export type Schedule = z.infer<typeof scheduleSchema>;

/** `schedules/<name>/state.json`, the only object of a schedule that is replaced. */
export const scheduleStateSchema = z
  .strictObject({
    version: z.literal(CONTRACT_VERSION).describe("Format version; readers refuse any other."),
    isPaused: z.boolean().describe("Whether the schedule is paused. A paused schedule makes no runs."),
    changedAt: z.iso.datetime().describe("Time of the last change. Ticks that were due before it are not made up for."),
  })
  .meta({
    title: "schedules/<name>/state.json",
    description: "Whether a schedule is paused; the only object of a schedule that is replaced.",
  });
export type ScheduleState = z.infer<typeof scheduleStateSchema>;

export const tickEventSchema = z.enum(["started", "waiting", "skipped", "sealed", "failed", "told"]);
export type TickEvent = z.infer<typeof tickEventSchema>;

/** `schedules/<name>/ticks/<slot>/<event>.json`; each is created once. */
export const tickRecordSchema = z
  .strictObject({
    version: z.literal(CONTRACT_VERSION).describe("Format version; readers refuse any other."),
    run: runIdSchema.describe("Id of the run."),
    at: z.iso.datetime().describe("Time at which the event happened."),
    since: runIdSchema.nullable().optional().describe("In `started`: the run that this one builds on."),
    reason: z.string().optional().describe("Why the run was skipped or failed, or what it waits for."),
  })
  .meta({ title: "schedules/<name>/ticks/<slot>/<event>.json", description: "An event of one scheduled run." });
export type TickRecord = z.infer<typeof tickRecordSchema>;

/** Name of a slot: `20261124T000000Z` */
export function slotName(slotMs: number): string {
  return `${new Date(slotMs).toISOString().slice(0, 19).replaceAll(/[-:]/g, "")}Z`;
}

/** Time of a slot in milliseconds since the epoch; null when the name is not a slot's. */
export function slotOf(name: string): number | null {
  const parts = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/.exec(name);
  if (parts === null) return null;
  const [, year, month, day, hour, minute, second] = parts;
  const slotMs = Date.parse(`${year}-${month}-${day}T${hour}:${minute}:${second}Z`);
  // Some parsers turn 30 February into a day in March.
  return Number.isNaN(slotMs) || slotName(slotMs) !== name ? null : slotMs;
}

/** Id of a slot's run, the same in every process that handles the tick. */
export function runOfSlot(name: string, slotMs: number): string {
  return `${name}-${slotName(slotMs)}`;
}
