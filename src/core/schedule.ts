/** Nightly runs: what a schedule is, what becomes of its ticks, and how their runs are called. */
import { z } from "zod";
import { CONTRACT_VERSION, limitSchema, precisionSchema, runIdSchema, runOptionsSchema } from "./contracts.ts";

/** Short enough that a compacted run's id, `<name>-<slot>-full`, is one. */
export const scheduleNameSchema = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9_-]{0,39}$/, "1 to 40 letters, digits, '-' or '_', starting with a letter or digit");

export const overlapPolicySchema = z.enum(["wait", "skip"]);
export type OverlapPolicy = z.infer<typeof overlapPolicySchema>;

const { heads, vectors, maxTokens, chunking, chunkTokens, overlap, keepText, maxDocumentBytes } =
  runOptionsSchema.shape;
const { format, idField, textFields, where, sample, keep } = runOptionsSchema.shape;

/**
 * What a schedule may say: options of `enqueue` that decide which rows are made of the corpus. Where the store, Redis
 * and S3 are, who is told what, and what this machine spends, is the business of the process that makes the runs.
 */
export const scheduleOptionsSchema = z.strictObject({
  /** Its name; only of a signed schedule the path of its folder. */
  model: z.string().min(1).max(4096).optional(),
  /** A folder of models; only of a signed schedule. */
  models: z.string().min(1).max(4096).optional(),
  precision: z.enum(["auto", ...precisionSchema.options]).optional(),
  heads: heads.optional(),
  dim: z.int().min(1).optional(),
  /** What dense and ColBERT vectors are written as. */
  vectors: vectors.unwrap().optional(),
  maxTokens: maxTokens.optional(),
  chunking: chunking.optional(),
  /** Longest chunk, special tokens included. */
  chunkTokens: chunkTokens.optional(),
  overlap: overlap.optional(),
  idField: idField.optional(),
  /** Where its text is found; several are joined in order by a blank line. */
  textField: textFields.optional(),
  format: format.optional(),
  where: where.optional(),
  sample: sample.optional(),
  /** At most so many documents, the first ones. */
  limit: z.int().min(1).optional(),
  keep: keep.optional(),
  keepText: keepText.optional(),
  /** Whether equal texts are embedded once. */
  dedupe: z.boolean().optional(),
  /** A longer line, row or file is rejected. */
  maxDocumentBytes: maxDocumentBytes.optional(),
  /** The run stops at a number of rejected documents, and is held at a share of them. */
  maxRejects: limitSchema.optional(),
  /** The run is held when more documents of its base than this are gone from the corpus. */
  maxDeletes: limitSchema.optional(),
  /** Whether it stops at the first. */
  strict: z.boolean().optional(),
  /** Planning waits while this many jobs are queued. */
  maxBacklog: z.int().min(1).optional(),
});

const signatureSchema = z.string().regex(/^v1=[0-9a-f]{64}$/);

/** `schedules/<name>.json` */
export const scheduleSchema = z.strictObject({
  version: z.literal(CONTRACT_VERSION),
  name: scheduleNameSchema,
  createdAt: z.iso.datetime(),
  cron: z.string().max(200),
  tz: z.string().max(100),
  overlapPolicy: overlapPolicySchema,
  /** Told of each run that is sealed or fails. */
  webhook: z
    .url({ protocol: /^https?$/ })
    .max(4096)
    .nullable(),
  /** What the first run builds on; the others build on the one before. */
  since: runIdSchema.nullable(),
  inputs: z.array(z.string().min(1).max(4096)).min(1).max(1000),
  /** Options of `enqueue`, by the names that the program gives them. */
  options: scheduleOptionsSchema,
  /** Made with the secret of whoever added it, over everything else; see `src/control/schedules/signature.ts`. */
  signature: signatureSchema.optional(),
});
export type Schedule = z.infer<typeof scheduleSchema>;

/** `schedules/<name>/state.json`, the one object of a schedule that is replaced. */
export const scheduleStateSchema = z.strictObject({
  version: z.literal(CONTRACT_VERSION),
  isPaused: z.boolean(),
  /** Ticks that were due before are not made up for. */
  changedAt: z.iso.datetime(),
});
export type ScheduleState = z.infer<typeof scheduleStateSchema>;

export const tickEventSchema = z.enum(["started", "waiting", "skipped", "sealed", "failed", "told"]);
export type TickEvent = z.infer<typeof tickEventSchema>;

/** `schedules/<name>/ticks/<slot>/<event>.json`: each is created once. */
export const tickRecordSchema = z.strictObject({
  version: z.literal(CONTRACT_VERSION),
  run: runIdSchema,
  at: z.iso.datetime(),
  /** Of `started`: what the run builds on. */
  since: runIdSchema.nullable().optional(),
  /** Why it was skipped or failed, or what it waits for. */
  reason: z.string().optional(),
});
export type TickRecord = z.infer<typeof tickRecordSchema>;

/** `20261124T000000Z` */
export function slotName(slotMs: number): string {
  return `${new Date(slotMs).toISOString().slice(0, 19).replaceAll(/[-:]/g, "")}Z`;
}

/** The instant of a slot's name, in milliseconds since the epoch; null for another name. */
export function slotOf(name: string): number | null {
  const parts = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/.exec(name);
  if (parts === null) return null;
  const [, year, month, day, hour, minute, second] = parts;
  const slotMs = Date.parse(`${year}-${month}-${day}T${hour}:${minute}:${second}Z`);
  // There is no 30 February, though some parsers make one of March of it.
  return Number.isNaN(slotMs) || slotName(slotMs) !== name ? null : slotMs;
}

/** Two processes that are told of one tick come to one run. */
export function runOfSlot(name: string, slotMs: number): string {
  return `${name}-${slotName(slotMs)}`;
}
