/** Parts of a corpus as jobs, for several machines that read and tokenise for one run. */
import { z } from "zod";
import { CONTRACT_VERSION, rejectSchema, runIdSchema } from "./contracts.ts";

const countSchema = z.int().min(0);
/** The part's place in the corpus, and a digest of what it is: another version of a file is another part. */
const partIdSchema = z.string().regex(/^p\d{6,}-[0-9a-f]{16}$/);

export function partId(index: number, digest: string): string {
  return `p${String(index).padStart(6, "0")}-${digest.slice(0, 16)}`;
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

/** The objects of a part that is many, in corpus order: too much for a job, so it lies in the store. */
export const partListSchema = z.strictObject({
  version: z.literal(CONTRACT_VERSION),
  objects: z.array(objectSchema).min(2).max(MAX_PART_OBJECTS),
});
export type PartList = z.infer<typeof partListSchema>;

/** A queue job: where the part lies, never its text. */
export const partJobSchema = z.strictObject({
  v: z.literal(CONTRACT_VERSION),
  run: runIdSchema,
  part: partIdSchema,
  what: z.union([
    objectSchema.extend({ range: rangeSchema.nullable() }),
    /** How many, and what to call them; which ones is in the store, under the part's name. */
    z.strictObject({ name: z.string(), objects: z.int().min(2) }),
  ]),
});
export type PartJob = z.infer<typeof partJobSchema>;

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

/** The parts of one run that are to be read: a dispatcher that may be wiped, like the queue of shards. */
export interface PartQueue {
  /** Adds the part; one that is queued is left alone, and one that failed is tried again. */
  add(job: PartJob): Promise<void>;
  state(job: PartJob): Promise<PartState>;
  /** One that is being made stays. */
  remove(job: PartJob): Promise<void>;
  /**
   * Takes parts until closed. A part whose process dies is given to another, and so is, twice, one for which `make`
   * throws `store_unavailable`; if it throws otherwise, the part has failed.
   */
  work(params: Readonly<{ atOnce: number; make: MakePart }>): Promise<void>;
  /** The plan is whole: forgets every part, and takes none any more. */
  drop(): Promise<void>;
  /** Gives back what is being made. */
  close(): Promise<void>;
}

/** @param signal Asks it to give up, by throwing: the part is given back. */
export type MakePart = (job: PartJob, signal: AbortSignal) => Promise<void>;
