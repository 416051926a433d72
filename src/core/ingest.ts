/** Parts of a corpus as jobs, for several machines that read and tokenise for one run. */
import { z } from "zod";
import { CONTRACT_VERSION, rejectSchema, runIdSchema } from "./contracts.ts";
import { FleetError, hasCode, messageOf } from "./errors.ts";

const countSchema = z.int().min(0);
/**
 * Position of the part in the corpus, and the full SHA-256 of its record. A shorter digest would let an attacker who
 * controls the content of a part find another one with the same id.
 */
const partIdSchema = z.string().regex(/^p\d{6,}-[0-9a-f]{64}$/);

/** @param sha256 SHA-256 of the part's record, in hexadecimal digits. */
export function partId(index: number, sha256: string): string {
  return `p${String(index).padStart(6, "0")}-${sha256}`;
}

const placeSchema = z.discriminatedUnion("kind", [
  z.strictObject({ kind: z.literal("file"), path: z.string().min(1) }),
  z.strictObject({
    kind: z.literal("s3"),
    bucket: z.string().min(1),
    entry: z.strictObject({ key: z.string().min(1), bytes: countSchema, etag: z.string().min(1) }),
  }),
]);

const objectSchema = z.strictObject({
  name: z.string(),
  id: z.string(),
  place: placeSchema,
  pin: z.strictObject({ bytes: countSchema, mtimeMs: z.number() }).nullable(),
  /** Values of the partition of a table. */
  fields: z.record(z.string(), z.string().nullable()).exactOptional(),
});
const rangeSchema = z.strictObject({ start: countSchema, end: countSchema });

/** Most objects of one part; small objects share a part, because each part costs a job and several requests. */
export const MAX_PART_OBJECTS = 1000;

/**
 * Content of a part, in the store. The lead writes it before it offers the part; workers on parts rely on this record
 * and on nothing in the queue.
 */
export const partRecordSchema = z.strictObject({
  version: z.literal(CONTRACT_VERSION),
  run: runIdSchema,
  /** Position of the part in the corpus. */
  index: countSchema,
  what: z.union([
    objectSchema.extend({ range: rangeSchema.nullable() }),
    z.strictObject({
      name: z.string(),
      /** Objects in corpus order. */
      objects: z.array(objectSchema).min(2).max(MAX_PART_OBJECTS),
      range: z.null(),
    }),
  ]),
});
export type PartRecord = z.infer<typeof partRecordSchema>;

const partJobSchema = z.strictObject({ v: z.literal(CONTRACT_VERSION), run: runIdSchema, part: partIdSchema });
/** A queue job: the name of a part, never its content. */
export type PartJob = z.infer<typeof partJobSchema>;

const SHOWN_CHARS = 500;

/**
 * Validates a job; others can write to the queue.
 *
 * @param expected.id The job's id in the queue.
 * @throws FleetError `job_invalid`
 */
export function parsePartJob(data: unknown, expected: Readonly<{ run: string; id: string | undefined }>): PartJob {
  const cure = "the job is forged or was queued by another version of embedfleet; nothing was read";
  const parsed = partJobSchema.safeParse(data);
  if (!parsed.success) {
    const problem = messageOf(parsed.error).slice(0, SHOWN_CHARS);
    throw new FleetError("job_invalid", `the payload is not a valid part: ${problem}`, { cure });
  }
  const { run, part } = parsed.data;
  if (run === expected.run && part === expected.id) return parsed.data;
  throw new FleetError("job_invalid", `the payload belongs to part ${part} of run ${run}`, { cure });
}

const faultSchema = z.strictObject({ code: z.string(), message: z.string(), cure: z.string().nullable() });

/** Header before the staged rows of a piece of a part. */
export const pieceHeaderSchema = z.strictObject({
  version: z.literal(CONTRACT_VERSION),
  run: runIdSchema,
  part: partIdSchema,
  piece: countSchema,
  isLast: z.boolean(),
  rows: countSchema,
  tokens: countSchema,
  /** Items in corpus order; lines count from the part's own first one. */
  items: z.array(
    z.union([
      z.strictObject({ reject: rejectSchema }),
      z.strictObject({
        id: z.string(),
        file: z.string(),
        line: z.int().min(1).optional(),
        /** Digest as from `contentHash`. */
        content: z.string().regex(/^[0-9a-f]{64}$/),
        /** Number of rows that the document was split into. */
        rows: countSchema,
        /** Number of characters that were replaced in its text. */
        replaced: z.int().min(1).optional(),
      }),
    ]),
  ),
  /** Present in the last piece of a range. */
  end: z.strictObject({ lines: countSchema, fault: faultSchema.nullable() }).nullable(),
});
export type PieceHeader = z.infer<typeof pieceHeaderSchema>;

/** Where the queue has a part, or why it failed. */
export type PartState = { readonly kind: "queued" | "unknown" } | { readonly kind: "failed"; readonly reason: string };

/** Whether another machine may succeed with the part: the store is unreachable, the disk is full, or the user lacks permissions. */
export function mayBeMadeElsewhere(error: unknown): boolean {
  return hasCode(error, "store_unavailable") || hasCode(error, "store_refused");
}

/** Queue of the parts of one run that are still to be read; its content may be lost, as with the queue of shards. */
export interface PartQueue {
  /** Adds the part. A queued part is left alone, and a failed one is tried again. */
  add(job: PartJob): Promise<void>;
  /** What the queue knows of a part. */
  state(job: PartJob): Promise<PartState>;
  /** Removes the part unless a worker is on it. */
  remove(job: PartJob): Promise<void>;
  /**
   * Takes parts until closed. A part whose process dies is handed to another, and so is, at most twice, a part for which
   * `make` throws an error for which `mayBeMadeElsewhere` is true; after any other error the part has failed.
   */
  work(params: Readonly<{ atOnce: number; make: MakePart }>): Promise<void>;
  /** Forgets every part once the plan is complete, and takes no more. */
  drop(): Promise<void>;
  /** Returns the parts in progress to the queue. */
  close(): Promise<void>;
}

/**
 * Reads, chunks and stages one part.
 * @param signal Asks the function to stop by throwing; the part then returns to the queue.
 */
export type MakePart = (job: PartJob, signal: AbortSignal) => Promise<void>;
