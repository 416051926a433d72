/** Parts of a corpus as jobs, for several machines that read and tokenise for one run. */
import { z } from "zod";
import { CONTRACT_VERSION, rejectSchema, runIdSchema } from "./contracts.ts";
import { FleetError, hasCode, messageOf } from "./errors.ts";

const countSchema = z.int().min(0);
/**
 * The part's place in the corpus, and the SHA-256 of its whole record. Nothing shorter: whoever can choose what a part
 * says must not find another one with the same id.
 */
const partIdSchema = z.string().regex(/^p\d{6,}-[0-9a-f]{64}$/);

/** @param sha256 Of the part's record, in hexadecimal digits. */
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
});
const rangeSchema = z.strictObject({ start: countSchema, end: countSchema });

/** Of small objects, each of which would cost a job and several requests. */
export const MAX_PART_OBJECTS = 1000;

/**
 * What a part is, in the store, where the lead has written it before it offers the part. Those who make the part go by
 * this and by nothing in the queue.
 */
export const partRecordSchema = z.strictObject({
  version: z.literal(CONTRACT_VERSION),
  run: runIdSchema,
  /** The part's place in the corpus. */
  index: countSchema,
  what: z.union([
    objectSchema.extend({ range: rangeSchema.nullable() }),
    z.strictObject({
      name: z.string(),
      /** In corpus order. */
      objects: z.array(objectSchema).min(2).max(MAX_PART_OBJECTS),
      range: z.null(),
    }),
  ]),
});
export type PartRecord = z.infer<typeof partRecordSchema>;

const partJobSchema = z.strictObject({ v: z.literal(CONTRACT_VERSION), run: runIdSchema, part: partIdSchema });
/** A queue job: the name of a part, never what it is. */
export type PartJob = z.infer<typeof partJobSchema>;

const SHOWN_CHARS = 500;

/**
 * Jobs come from a queue that others can write to.
 *
 * @param expected.id What the queue calls the job.
 * @throws FleetError `job_invalid`
 */
export function parsePartJob(data: unknown, expected: Readonly<{ run: string; id: string | undefined }>): PartJob {
  const cure = "the job is forged, or of another version of embedfleet; nothing was read";
  const parsed = partJobSchema.safeParse(data);
  if (!parsed.success) {
    const problem = messageOf(parsed.error).slice(0, SHOWN_CHARS);
    throw new FleetError("job_invalid", `the payload is no part: ${problem}`, { cure });
  }
  const { run, part } = parsed.data;
  if (run === expected.run && part === expected.id) return parsed.data;
  throw new FleetError("job_invalid", `the payload speaks of part ${part} of run ${run}`, { cure });
}

const faultSchema = z.strictObject({ code: z.string(), message: z.string(), cure: z.string().nullable() });

/** What stands before the staged rows of a piece of a part. */
export const pieceHeaderSchema = z.strictObject({
  version: z.literal(CONTRACT_VERSION),
  run: runIdSchema,
  part: partIdSchema,
  piece: countSchema,
  isLast: z.boolean(),
  rows: countSchema,
  tokens: countSchema,
  /** In corpus order; lines count from the part's own first one. */
  items: z.array(
    z.union([
      z.strictObject({ reject: rejectSchema }),
      z.strictObject({
        id: z.string(),
        file: z.string(),
        line: z.int().min(1).optional(),
        /** See `contentHash`. */
        content: z.string().regex(/^[0-9a-f]{64}$/),
        /** Rows that it was cut into. */
        rows: countSchema,
      }),
    ]),
  ),
  /** Of the last piece of a range. */
  end: z.strictObject({ lines: countSchema, fault: faultSchema.nullable() }).nullable(),
});
export type PieceHeader = z.infer<typeof pieceHeaderSchema>;

export type PartState = { readonly kind: "queued" | "unknown" } | { readonly kind: "failed"; readonly reason: string };

/** Whether another machine may make the part for which this was thrown: its store is away, its disk full, its user refused. */
export function mayBeMadeElsewhere(error: unknown): boolean {
  return hasCode(error, "store_unavailable") || hasCode(error, "store_refused");
}

/** The parts of one run that are to be read: a dispatcher that may be wiped, like the queue of shards. */
export interface PartQueue {
  /** Adds the part; one that is queued is left alone, and one that failed is tried again. */
  add(job: PartJob): Promise<void>;
  state(job: PartJob): Promise<PartState>;
  /** One that is being made stays. */
  remove(job: PartJob): Promise<void>;
  /**
   * Takes parts until closed. A part whose process dies is given to another, and so is, twice, one for which `make`
   * throws what `mayBeMadeElsewhere`; if it throws otherwise, the part has failed.
   */
  work(params: Readonly<{ atOnce: number; make: MakePart }>): Promise<void>;
  /** The plan is whole: forgets every part, and takes none any more. */
  drop(): Promise<void>;
  /** Gives back what is being made. */
  close(): Promise<void>;
}

/** @param signal Asks it to give up, by throwing: the part is given back. */
export type MakePart = (job: PartJob, signal: AbortSignal) => Promise<void>;
