/** Everything that crosses a process or comes back from a store or queue, as schemas. */
import { z } from "zod";
import { selectionSchema } from "./selection.ts";
import { IDLE_CAUSES } from "./telemetry.ts";

/** Of every record and file that has no version of its own; readers refuse another. */
export const CONTRACT_VERSION = 1;
/**
 * Of run records, plans and jobs. A run is planned in the version that its record has, to its end.
 * 1 has no digests of staged rows, of rejects and of the plan as a whole; it is still read and continued.
 */
export const PLAN_VERSION = 2;
/** Upper bounds that hold before anything is allocated. */
export const MAX_STAGED_SHARD_BYTES = 256 * 1024 * 1024;
/** Of one result file. */
export const MAX_DATA_FILE_BYTES = 512 * 1024 * 1024;
/** Of one plan or manifest. */
export const MAX_PLAN_BYTES = 32 * 1024 * 1024;
/** Of one shard. */
export const MAX_SHARD_ROWS = 1 << 20;
/** Of a document's id, in UTF-16 code units. */
export const MAX_ID_CHARS = 1024;

/** No slash, no `..`, nothing that needs escaping in a URL or a shell. */
export const runIdSchema = z
  .string()
  .regex(
    /^[A-Za-z0-9](?:[A-Za-z0-9_-]|\.(?!\.)){0,63}$/,
    "1 to 64 letters, digits, '-', '_' or single '.', starting with a letter or digit",
  );
const windowIdSchema = z.string().regex(/^w\d{6}$/);
const shardIdSchema = z.string().regex(/^w\d{6}-s\d{4}$/);
const sha256Schema = z.string().regex(/^[0-9a-f]{64}$/);
const countSchema = z.int().min(0);
const versionSchema = z.literal(CONTRACT_VERSION);
const planVersionSchema = z.union([z.literal(1), z.literal(PLAN_VERSION)]);

/** A kind of vectors that the model makes of a row. */
export const headSchema = z.enum(["dense", "sparse", "colbert"]);
/** One kind of vectors: one for the row, weights of its words, or one for each of its tokens. */
export type Head = z.infer<typeof headSchema>;
/** In the order in which they are listed everywhere. */
export const ALL_HEADS = headSchema.options;

/** Of the weights. A run's rows are all of one. */
export const precisionSchema = z.enum(["fp32", "fp16", "int8"]);
/** Precision of the weights. */
export type Precision = z.infer<typeof precisionSchema>;

/** What dense and ColBERT vectors are written as. */
export const vectorTypeSchema = z.enum(["float32", "float16"]);
/** Number type of written vectors. */
export type VectorType = z.infer<typeof vectorTypeSchema>;

/** Exactly which model. */
export const modelRefSchema = z.strictObject({
  id: z.string().min(1),
  revision: z.string().min(1),
  /** Of the weights that the session loads; of several files, of the lines `<sha256>  <path>` in order of path. */
  sha256: sha256Schema,
  /** Of what else decides vectors: tokenizer, pooling, prefixes and the like; none in runs of earlier versions. */
  setupSha256: sha256Schema.optional(),
  dim: z.int().min(1).max(65536),
  /** Longest usable row, special tokens included. */
  maxTokens: z.int().min(3),
});
/** Which model, by name, revision and digest. */
export type ModelRef = z.infer<typeof modelRefSchema>;

/** How a document that is longer than a chunk is cut. */
export const chunkingSchema = z.enum(["document", "tokens", "sentences", "paragraphs", "markdown"]);

/** All that decides what the rows and their vectors are. A run id stands for one of these for ever. */
export const runOptionsSchema = z.strictObject({
  model: modelRefSchema,
  heads: z.array(headSchema).min(1),
  precision: precisionSchema,
  /** Runs of before there was a choice have none. */
  vectors: vectorTypeSchema.default("float32"),
  maxTokens: z.int().min(3),
  chunking: chunkingSchema,
  /** Longest chunk, special tokens and context included; never above `maxTokens`. */
  chunkTokens: z.int().min(3),
  overlap: countSchema,
  ...selectionSchema.shape,
  keepText: z.boolean(),
  /** Rows of one shard with the same tokens go through the model once; equal texts of a window are put together. */
  dedupe: z.literal(true).optional(),
  /** Longest accepted input line or file, in bytes. */
  maxDocumentBytes: z.int().min(1),
});
/** The options of a run. */
export type RunOptions = z.infer<typeof runOptionsSchema>;

/** What a run builds on. Absent in `run.json`: a full run that was asked for as one. */
export const lineageSchema = z.discriminatedUnion("kind", [
  z.strictObject({
    kind: z.literal("full"),
    /** As asked with `--since`. */
    since: z.string(),
    /** Why it could not be a delta. */
    because: z.string(),
    /** The run it would have been a delta of, and takes the place of. */
    supersedes: runIdSchema.nullable(),
  }),
  z.strictObject({
    kind: z.literal("delta"),
    since: z.string(),
    /** The sealed run that it completes. */
    base: runIdSchema,
  }),
  z.strictObject({
    kind: z.literal("compact"),
    /** The delta whose effective rows it holds. */
    supersedes: runIdSchema,
  }),
]);
/** What a run builds on, or takes the place of. */
export type Lineage = z.infer<typeof lineageSchema>;

/** A number of documents, or a share of them such as `"10%"`. */
export const limitSchema = z.union([
  countSchema,
  z.string().regex(/^(?:100|\d{1,2})(?:\.\d{1,6})?%$/, "a whole number, or a share from 0% to 100%"),
]);
/** A number of documents, or a share of them. */
export type Limit = z.infer<typeof limitSchema>;

/** What must not be exceeded for the run to be sealed without a person's consent. */
export const guardsSchema = z.strictObject({
  /** Rejected documents, of those read. */
  maxRejects: limitSchema,
  /** Documents of the base that the corpus no longer has, of those that the base has. */
  maxDeletes: limitSchema,
});
/** The limits beyond which a run is held. */
export type Guards = z.infer<typeof guardsSchema>;

/** `run.json` */
export const runRecordSchema = z.strictObject({
  version: planVersionSchema,
  run: runIdSchema,
  createdAt: z.iso.datetime(),
  /** As typed, but `s3://` in small letters. People read it, and helpers go by it; see each window's `sourceSha256`. */
  inputs: z.array(z.string()),
  /** The version of embedfleet that began it: several machines cut a corpus alike when they have the same. */
  program: z.string().optional(),
  options: runOptionsSchema,
  lineage: lineageSchema.optional(),
  /** Absent in runs of earlier versions and in compactions: nothing holds them. */
  guards: guardsSchema.optional(),
});
/** What a run is: its inputs, its options, what it builds on. */
export type RunRecord = z.infer<typeof runRecordSchema>;

/** One shard of a window's plan. */
export const shardPlanSchema = z.strictObject({
  shard: shardIdSchema,
  rows: z.int().min(1).max(MAX_SHARD_ROWS),
  /** Real tokens, special tokens included. */
  tokens: z.int().min(1),
  /** Tokens of the longest row. */
  longest: z.int().min(1),
  /** Where its stream lies in the window's staged file. */
  start: countSchema,
  end: z.int().min(1),
  /** Digest of (id, chunk, text hash) of each row in order; see `core/rows.ts`. */
  rowsSha256: sha256Schema,
  /** Of the bytes `start` to `end` of the staged file. Absent in version 1, and where rows were not staged (`compact`). */
  stagedSha256: sha256Schema.optional(),
});
/** What is planned of one shard. */
export type ShardPlan = z.infer<typeof shardPlanSchema>;

/** `plan/w000012.json` */
export const windowPlanSchema = z.strictObject({
  version: planVersionSchema,
  run: runIdSchema,
  window: windowIdSchema,
  /** Position of the window's first document in the corpus, and how many it takes, rejects included. */
  firstDocument: countSchema,
  documents: countSchema,
  rows: countSchema,
  tokens: countSchema,
  rejects: countSchema,
  /** Documents that the base holds as they are; nothing of them is planned. */
  unchanged: countSchema.optional(),
  /** Digest of the documents as read; a corpus that changed under a run id is found by it. */
  sourceSha256: sha256Schema,
  /** Of the window's part of the document index, `index/w000012.arrow`; see `arrow/document-index.ts`. */
  indexSha256: sha256Schema.optional(),
  /** Of the window's rejects, `rejects/w000012.jsonl`, where it has some. Absent in version 1. */
  rejectsSha256: sha256Schema.optional(),
  stagedBytes: countSchema,
  shards: z.array(shardPlanSchema),
});
/** What is planned of one window. */
export type WindowPlan = z.infer<typeof windowPlanSchema>;

/** A part of the list of rows that a delta takes away from what it builds on: `deletes.arrow`. */
export const deletesFileSchema = z.strictObject({
  key: z.string(),
  rows: z.int().min(1),
  bytes: z.int().min(1),
  sha256: sha256Schema,
});
/** One file of deleted rows. */
export type DeletesFile = z.infer<typeof deletesFileSchema>;

/** `plan/closed.json` */
export const closedRecordSchema = z.strictObject({
  version: planVersionSchema,
  run: runIdSchema,
  windows: countSchema,
  documents: countSchema,
  rows: countSchema,
  tokens: countSchema,
  shards: countSchema,
  rejects: countSchema,
  /** Digest of all windows' plans in order; see `core/plan-proof.ts`. Absent in version 1. */
  plansSha256: sha256Schema.optional(),
  /** Of a delta: documents that its base holds as they are. */
  unchanged: countSchema.optional(),
  /** Of a delta. */
  deletes: z.array(deletesFileSchema).optional(),
  /** Of a delta with guards: documents that its base has, and how many of them the corpus no longer has. */
  base: z
    .strictObject({
      documents: countSchema,
      /** Documents that the corpus no longer has. */
      removed: countSchema,
    })
    .optional(),
});
/** Written when the corpus has been read to its end. */
export type ClosedRecord = z.infer<typeof closedRecordSchema>;

/** `accepted.json`: a person has agreed that a run beyond its guards is sealed. */
export const acceptedRecordSchema = z.strictObject({
  version: versionSchema,
  run: runIdSchema,
  acceptedAt: z.iso.datetime(),
});
/** Written when a held run is accepted. */
export type AcceptedRecord = z.infer<typeof acceptedRecordSchema>;

/** `cancelled.json` */
export const cancelledRecordSchema = z.strictObject({
  version: versionSchema,
  run: runIdSchema,
  cancelledAt: z.iso.datetime(),
});
/** Written when a run is cancelled. */
export type CancelledRecord = z.infer<typeof cancelledRecordSchema>;

/** A queue job: a pointer, never text. */
export const jobPayloadSchema = z
  .strictObject({
    v: planVersionSchema,
    run: runIdSchema,
    shard: shardIdSchema,
    start: countSchema,
    end: z.int().min(1),
    rows: z.int().min(1).max(MAX_SHARD_ROWS),
    tokens: z.int().min(1),
    longest: z.int().min(1),
    /** As planned, of the staged bytes. Absent in version 1. */
    stagedSha256: sha256Schema.optional(),
  })
  .refine((job) => job.end > job.start && job.end - job.start <= MAX_STAGED_SHARD_BYTES, {
    message: `the staged byte range must be 1 to ${MAX_STAGED_SHARD_BYTES} bytes`,
  });
/** What a job of the queue says. */
export type JobPayload = z.infer<typeof jobPayloadSchema>;

/** What the device waited for, in milliseconds: `idleMs` by cause. */
const idleSchema = z.partialRecord(z.enum(IDLE_CAUSES), z.number().min(0)).default({});

/** How one shard was computed. Every figure adds up over shards, so totals need no other ledger. */
export const shardStatsSchema = z.strictObject({
  rows: countSchema,
  rejects: countSchema,
  realTokens: countSchema,
  /** Sum over its rows of the longest row in the batch that each row ran in. */
  paddedTokens: countSchema,
  /** Batches whose first row is of this shard. */
  batches: countSchema,
  /** Its share, by padded area, of the time the device worked. */
  deviceMs: z.number().min(0),
  /** Its share of the time the device waited while the worker held jobs. */
  idleMs: z.number().min(0),
  idle: idleSchema,
  /** By whom and when, in milliseconds since the epoch; for reports, and left out of sums. */
  made: z
    .strictObject({
      worker: z.string().max(256),
      loadMs: z.number().min(0),
      firstBatchAtMs: z.number().min(0),
      lastBatchAtMs: z.number().min(0),
      assembleMs: z.number().min(0),
    })
    .optional(),
});
/** What one shard cost. */
export type ShardStats = z.infer<typeof shardStatsSchema>;

/** One line of `rejects/*.jsonl`. */
export const rejectSchema = z.strictObject({
  id: z.string().nullable(),
  chunk: countSchema.optional(),
  /** A row refused by a worker: its place in the shard and its planned text hash. */
  row: countSchema.optional(),
  textHash: sha256Schema.optional(),
  reason: z.string(),
  detail: z.string(),
  /** Where it was found: a file, and a line where it has lines; or the shard and row. */
  file: z.string(),
  line: z.int().min(1).optional(),
});
/** A document or row that was refused. */
export type Reject = z.infer<typeof rejectSchema>;

/** One result file as the seal has read it. */
export const manifestFileSchema = z.strictObject({
  key: z.string(),
  shard: shardIdSchema,
  rows: countSchema,
  bytes: z.int().min(1),
  sha256: sha256Schema,
});

/** The sums over a run's files; times are in milliseconds. */
export const totalsSchema = z.strictObject({
  documents: countSchema,
  rows: countSchema,
  rejects: countSchema,
  shards: countSchema,
  files: countSchema,
  bytes: countSchema,
  batches: countSchema,
  realTokens: countSchema,
  paddedTokens: countSchema,
  deviceMs: z.number().min(0),
  idleMs: z.number().min(0),
  idle: idleSchema,
  /** Of a delta: documents that its base holds as they are, and rows that it takes away from it. */
  unchanged: countSchema.optional(),
  deletes: countSchema.optional(),
});
/** The sums of a sealed run. */
export type Totals = z.infer<typeof totalsSchema>;

type Keyed = Readonly<{ key: string }>;
const PATH_IN_RUN = /^[\w-]+(?:[./][\w-]+)*$/;

/** Whoever can write a manifest must not have other objects read through it. */
function namesOwnKeysOnly(
  named: Readonly<{ run: string; files: Keyed[]; rejects: Keyed[]; deletes?: Keyed[] | undefined }>,
): boolean {
  const prefix = `runs/${named.run}/`;
  return [...named.files, ...named.rejects, ...(named.deletes ?? [])].every(
    ({ key }) => key.startsWith(prefix) && PATH_IN_RUN.test(key.slice(prefix.length)),
  );
}

/** `manifest.json` */
export const manifestSchema = z
  .strictObject({
    version: versionSchema,
    kind: z.enum(["full", "delta"]),
    run: runIdSchema,
    /** Of a delta: the sealed run that it completes. */
    base: runIdSchema.optional(),
    /** Of a full run: what it takes the place of, because it was compacted from it or could not build on it. */
    supersedes: runIdSchema.optional(),
    createdAt: z.iso.datetime(),
    sealedAt: z.iso.datetime(),
    options: runOptionsSchema,
    totals: totalsSchema,
    files: z.array(manifestFileSchema),
    /** Of a delta: rows of its base, and of what that builds on, that are no more or are replaced by its own. */
    deletes: z.array(deletesFileSchema).optional(),
    /** Reject files that count, with the lines in each. */
    rejects: z.array(z.strictObject({ key: z.string(), lines: countSchema })),
  })
  .refine(namesOwnKeysOnly, { message: "a manifest may only name files of its own run" });
/** What a sealed run consists of. */
export type Manifest = z.infer<typeof manifestSchema>;

/** `latest.json` */
export const latestSchema = z.strictObject({
  version: versionSchema,
  run: runIdSchema,
  sealedAt: z.iso.datetime(),
});
/** Which run was sealed last. */
export type Latest = z.infer<typeof latestSchema>;
