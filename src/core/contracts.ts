/** Schemas of everything that crosses a process boundary or is read from a store or queue. */
import { z } from "zod";
import { promptSchema } from "./prompt.ts";
import {
  countSchema,
  limitSchema,
  runIdSchema,
  sha256Schema,
  shardIdSchema,
  storeIdSchema,
  versionSchema,
  windowIdSchema,
} from "./scalars.ts";
import { selectionSchema } from "./selection.ts";
import { totalsSchema } from "./stats.ts";

export * from "./marker-records.ts";
export { CONTRACT_VERSION, type Limit, limitSchema, runIdSchema } from "./scalars.ts";
export * from "./stats.ts";

/**
 * Version of run records, plans and jobs. A run keeps its record's version until it is fully planned.
 * Version 1 has no digests of staged rows, of rejects and of the whole plan; it is still read and continued.
 */
export const PLAN_VERSION = 2;
/** Size limit of a staged shard. This and the next limits are checked before any allocation. */
export const MAX_STAGED_SHARD_BYTES = 256 * 1024 * 1024;
/** Size limit of one result file. */
export const MAX_DATA_FILE_BYTES = 512 * 1024 * 1024;
/** Size limit of one plan or manifest. */
export const MAX_PLAN_BYTES = 32 * 1024 * 1024;
/** Most rows of one shard. */
export const MAX_SHARD_ROWS = 1 << 20;
/** Longest document id, in UTF-16 code units. */
export const MAX_ID_CHARS = 1024;

const planVersionSchema = z.union([z.literal(1), z.literal(PLAN_VERSION)]);

/** A kind of vectors that the model produces for a row. */
export const headSchema = z.enum(["dense", "sparse", "colbert"]);
/** A kind of vectors: one per row, a weight per word of the row, or one per token. */
export type Head = z.infer<typeof headSchema>;
/** All heads, in the order in which they are listed everywhere. */
export const ALL_HEADS = headSchema.options;

/** Precision of the weights. All rows of a run have the same one. */
export const precisionSchema = z.enum(["fp32", "fp16", "int8"]);
/** Precision of the weights. */
export type Precision = z.infer<typeof precisionSchema>;

/** Name of an inference engine, as in `--engine`. */
export const engineNameSchema = z
  .string()
  .regex(/^[a-z][a-z0-9-]{0,31}$/, "1 to 32 small letters, digits or '-', starting with a letter");

/** Number type of dense and ColBERT vectors in files. */
export const vectorTypeSchema = z.enum(["float32", "float16"]);
/** Number type of written vectors. */
export type VectorType = z.infer<typeof vectorTypeSchema>;

/** Identity of a model. */
export const modelRefSchema = z.strictObject({
  id: z.string().min(1).describe("Name of the model."),
  revision: z.string().min(1).describe("Revision of the model."),
  sha256: sha256Schema.describe(
    "SHA-256 of what the engine loads, the weights. For several files it is the SHA-256 of the lines `<sha256>  <path>` in order of path.",
  ),
  setupSha256: sha256Schema
    .optional()
    .describe(
      "SHA-256 of everything else that decides vectors: tokenizer, pooling, prefixes. Runs of earlier versions have none.",
    ),
  dim: z.int().min(1).max(65536).describe("Width of dense and ColBERT vectors."),
  maxTokens: z.int().min(3).describe("Longest row in tokens that the model takes, special tokens included."),
});
/** A model by name, revision and digest. */
export type ModelRef = z.infer<typeof modelRefSchema>;

/** Strategy for splitting a document that is longer than a chunk. */
export const chunkingSchema = z.enum(["document", "tokens", "sentences", "paragraphs", "markdown"]);

/** All options that decide the rows and their vectors. A run id stands for one such set permanently. */
export const runOptionsSchema = z
  .strictObject({
    model: modelRefSchema.describe("Model that makes the vectors."),
    heads: z.array(headSchema).min(1).describe("Vector types that are produced."),
    precision: precisionSchema.describe("Precision of the weights."),
    engine: engineNameSchema
      .optional()
      .describe("Engine that computes the vectors; absent in runs of earlier versions, which are ONNX Runtime's."),
    vectors: vectorTypeSchema.default("float32").describe("Number type of dense and ColBERT vectors in result files."),
    prompt: promptSchema.optional(),
    maxTokens: z.int().min(3).describe("Longest row in tokens, special tokens included; longer rows are truncated."),
    chunking: chunkingSchema.describe("Where documents are cut; docs/chunking.md explains the choices."),
    chunkTokens: z
      .int()
      .min(3)
      .describe("Longest chunk in tokens, special tokens and context included; never above `maxTokens`."),
    overlap: countSchema.describe("Number of tokens that neighbouring chunks share."),
    ...selectionSchema.shape,
    keepText: z.boolean().describe("Whether the output has the text."),
    dedupe: z
      .literal(true)
      .optional()
      .describe(
        "Rows of one shard with the same tokens go through the model once; equal texts of a window are planned into one shard.",
      ),
    maxDocumentBytes: z
      .int()
      .min(1)
      .describe("Longest accepted input line or file in bytes; a longer one is rejected."),
  })
  .meta({
    id: "RunOptions",
    title: "Options of a run",
    description: "Options that decide a run's rows and their vectors.",
  });
/** Options of a run. */
export type RunOptions = z.infer<typeof runOptionsSchema>;

/** The run's relation to earlier runs. Absent in `run.json` of a full run that was requested as one. */
export const lineageSchema = z.discriminatedUnion("kind", [
  z.strictObject({
    kind: z.literal("full").describe("Kind of the run."),
    since: z.string().describe("Value of `--since`."),
    because: z.string().describe("Why the run could not be a delta."),
    supersedes: runIdSchema.nullable().describe("Run that this one would have been a delta of, and replaces."),
  }),
  z.strictObject({
    kind: z.literal("delta").describe("Kind of the run."),
    since: z.string().describe("Value of `--since`."),
    base: runIdSchema.describe("Sealed run that the delta completes."),
  }),
  z.strictObject({
    kind: z.literal("compact").describe("Kind of the run."),
    supersedes: runIdSchema.describe("Delta whose effective rows this run holds."),
  }),
]);
/** The run that this one builds on or replaces. */
export type Lineage = z.infer<typeof lineageSchema>;

/** Limits that must hold for the run to be sealed without a person's consent. */
export const guardsSchema = z.strictObject({
  maxRejects: limitSchema.describe("Most rejected documents, as a number or as a share of those read."),
  maxDeletes: limitSchema.describe(
    "Most documents that the base has and the corpus no longer has, as a number or as a share of the base's.",
  ),
});
/** Limits beyond which a run is held. */
export type Guards = z.infer<typeof guardsSchema>;

/** `run.json` */
export const runRecordSchema = z
  .strictObject({
    version: planVersionSchema.describe("Format version; readers refuse any other."),
    run: runIdSchema.describe("Id of the run."),
    createdAt: z.iso.datetime().describe("Time at which the run was begun."),
    inputs: z
      .array(z.string())
      .describe(
        "Inputs as they were typed, with `s3://` in small letters. They are for people and for helpers; `sourceSha256` of each window says what was read.",
      ),
    program: z
      .string()
      .optional()
      .describe("Version of embedfleet that began the run. Machines of the same version cut a corpus alike."),
    engineVersion: z
      .string()
      .max(256)
      .optional()
      .describe("Version of the engine where the run was begun. Workers with other versions may compute it."),
    options: runOptionsSchema.describe("Options that decide the rows and their vectors."),
    lineage: lineageSchema
      .optional()
      .describe("The run that this one builds on or replaces; absent for a run that was requested as full."),
    guards: guardsSchema
      .optional()
      .describe("Limits beyond which the run is held. Runs of earlier versions and compactions have none."),
    unplanned: z
      .literal(true)
      .optional()
      .describe("Removed before the first window is written: until then a command may begin the run anew."),
  })
  .meta({
    title: "runs/<run>/run.json",
    description: "What a run is: its inputs, its options and the run it builds on.",
  });
/** A run's record: its inputs, its options and the run it builds on. */
export type RunRecord = z.infer<typeof runRecordSchema>;

/** One shard of a window's plan. */
export const shardPlanSchema = z.strictObject({
  shard: shardIdSchema.describe("Id of the shard."),
  rows: z.int().min(1).max(MAX_SHARD_ROWS).describe("Number of rows."),
  tokens: z.int().min(1).describe("Number of real tokens, special tokens included."),
  longest: z.int().min(1).describe("Number of tokens in the longest row."),
  start: countSchema.describe("First byte of the shard in the window's staged file."),
  end: z.int().min(1).describe("One past the shard's last byte in the window's staged file."),
  rowsSha256: sha256Schema.describe(
    "SHA-256 over (id, chunk, text hash) of each row in order; `src/core/rows.ts` computes it.",
  ),
  stagedSha256: sha256Schema
    .optional()
    .describe(
      "SHA-256 of the bytes `start` to `end` of the staged file; absent in version 1 and where rows were not staged (`compact`).",
    ),
});
/** Plan of one shard. */
export type ShardPlan = z.infer<typeof shardPlanSchema>;

/** `plan/w000012.json` */
export const windowPlanSchema = z
  .strictObject({
    version: planVersionSchema.describe("Format version; readers refuse any other."),
    run: runIdSchema.describe("Id of the run."),
    window: windowIdSchema.describe("Id of the window."),
    firstDocument: countSchema.describe("Position of the window's first document in the corpus, from 0."),
    documents: countSchema.describe("Number of documents in the window, rejects included."),
    rows: countSchema.describe("Number of rows."),
    tokens: countSchema.describe("Number of real tokens, special tokens included."),
    rejects: countSchema.describe("Number of documents and rows that were refused."),
    unchanged: countSchema
      .optional()
      .describe("Number of documents that the base holds unchanged; no rows are planned for them."),
    sourceSha256: sha256Schema.describe(
      "SHA-256 of the documents as read; it reveals a corpus that changed under the same run id.",
    ),
    indexSha256: sha256Schema.optional().describe("SHA-256 of the window's document index, `index/w000012.arrow`."),
    rejectsSha256: sha256Schema
      .optional()
      .describe(
        "SHA-256 of the window's reject file, `rejects/w000012.jsonl`; absent where nothing was rejected, and in version 1.",
      ),
    stagedBytes: countSchema.describe("Size of the window's staged file in bytes."),
    shards: z.array(shardPlanSchema).describe("Plan of each shard."),
  })
  .meta({
    title: "runs/<run>/plan/w000012.json",
    description: "Plan of one window: its shards and the digests of their rows.",
  });
/** Plan of one window. */
export type WindowPlan = z.infer<typeof windowPlanSchema>;

/** A part of the list of rows that a delta deletes from its base: `deletes.arrow`. */
export const deletesFileSchema = z.strictObject({
  key: z.string().describe("Key of the object in the store, below `--out`."),
  rows: z.int().min(1).describe("Number of rows."),
  bytes: z.int().min(1).describe("Size in bytes."),
  sha256: sha256Schema.describe("SHA-256 of the object's bytes."),
});
/** One file of deleted rows. */
export type DeletesFile = z.infer<typeof deletesFileSchema>;

/** `plan/closed.json` */
export const closedRecordSchema = z
  .strictObject({
    version: planVersionSchema.describe("Format version; readers refuse any other."),
    run: runIdSchema.describe("Id of the run."),
    windows: countSchema.describe("Number of windows in the corpus."),
    documents: countSchema.describe("Number of documents, rejects included."),
    rows: countSchema.describe("Number of rows."),
    tokens: countSchema.describe("Number of real tokens, special tokens included."),
    shards: countSchema.describe("Number of shards."),
    rejects: countSchema.describe("Number of documents and rows that were refused."),
    plansSha256: sha256Schema
      .optional()
      .describe("SHA-256 over all windows' plans in order; `src/core/plan-proof.ts` computes it. Absent in version 1."),
    unchanged: countSchema.optional().describe("In a delta: number of documents that the base holds unchanged."),
    deletes: z
      .array(deletesFileSchema)
      .optional()
      .describe("In a delta: the files that list the rows it deletes from its base."),
    base: z
      .strictObject({
        documents: countSchema.describe("Number of documents that the base has."),
        removed: countSchema.describe("Number of those that the corpus no longer has."),
      })
      .optional()
      .describe("In a delta with guards: what became of the base's documents."),
  })
  .meta({ title: "runs/<run>/plan/closed.json", description: "Written when the corpus has been read to its end." });
/** Written when the corpus has been read to its end. */
export type ClosedRecord = z.infer<typeof closedRecordSchema>;

/** A queue job: a pointer, never text. */
export const jobPayloadSchema = z
  .strictObject({
    v: planVersionSchema.describe("Format version; workers refuse any other."),
    run: runIdSchema.describe("Id of the run."),
    shard: shardIdSchema.describe("Id of the shard."),
    start: countSchema.describe("First byte of the shard in the window's staged file."),
    end: z.int().min(1).describe("One past the shard's last byte in the window's staged file."),
    rows: z.int().min(1).max(MAX_SHARD_ROWS).describe("Number of rows."),
    tokens: z.int().min(1).describe("Number of real tokens, special tokens included."),
    longest: z.int().min(1).describe("Number of tokens in the longest row."),
    stagedSha256: sha256Schema.optional().describe("SHA-256 of the staged bytes, as planned; absent in version 1."),
    store: storeIdSchema.optional().describe("Id of the store that the run is in, from its `store.json`."),
  })
  .refine((job) => job.end > job.start && job.end - job.start <= MAX_STAGED_SHARD_BYTES, {
    message: `the staged byte range must be 1 to ${MAX_STAGED_SHARD_BYTES} bytes`,
  })
  .meta({ title: "A job of the queue", description: "A pointer to the staged rows of a shard; it holds no text." });
/** Content of a queue job. */
export type JobPayload = z.infer<typeof jobPayloadSchema>;

/** One line of `rejects/*.jsonl`. */
export const rejectSchema = z
  .strictObject({
    id: z.string().nullable().describe("Id of the document; null where it has none."),
    chunk: countSchema.optional().describe("Number of the chunk within its document, from 0."),
    row: countSchema.optional().describe("Position in the shard of a row that a worker refused, from 0."),
    textHash: sha256Schema.optional().describe("SHA-256 of the row's text, as planned."),
    reason: z.string().describe("Reason in one word; docs/sources.md lists the reasons."),
    detail: z.string().describe("Reason in one sentence."),
    file: z.string().describe("File in which the document was found, or shard in which the row was."),
    line: z.int().min(1).optional().describe("Line in that file, from 1; absent where the format has no lines."),
  })
  .meta({ title: "A line of runs/<run>/rejects/….jsonl", description: "A document or row that was refused." });
/** A document or row that was refused. */
export type Reject = z.infer<typeof rejectSchema>;

/** One result file, as read by the seal. */
export const manifestFileSchema = z.strictObject({
  key: z.string().describe("Key of the object in the store, below `--out`."),
  shard: shardIdSchema.describe("Id of the shard."),
  rows: countSchema.describe("Number of rows."),
  bytes: z.int().min(1).describe("Size in bytes."),
  sha256: sha256Schema.describe("SHA-256 of the object's bytes."),
});

type Keyed = Readonly<{ key: string }>;
const PATH_IN_RUN = /^[\w-]+(?:[./][\w-]+)*$/;

/** A forged manifest must not cause other objects to be read. */
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
    version: versionSchema.describe("Format version; readers refuse any other."),
    kind: z.enum(["full", "delta"]).describe("Kind of the run."),
    run: runIdSchema.describe("Id of the run."),
    base: runIdSchema.optional().describe("In a delta: the sealed run that it completes."),
    supersedes: runIdSchema
      .optional()
      .describe("In a full run: the run that it replaces, because it was compacted from it or could not build on it."),
    createdAt: z.iso.datetime().describe("Time at which the run was begun."),
    sealedAt: z.iso.datetime().describe("Time at which the run was sealed."),
    options: runOptionsSchema.describe("Options that decide the rows and their vectors."),
    totals: totalsSchema.describe("Sums over all result files."),
    files: z.array(manifestFileSchema).describe("Result files, as the seal read them."),
    deletes: z
      .array(deletesFileSchema)
      .optional()
      .describe(
        "In a delta: the files that list the rows of its base, and of the runs below it, that it deletes or replaces.",
      ),
    rejects: z
      .array(
        z.strictObject({
          key: z.string().describe("Key of the object in the store, below `--out`."),
          lines: countSchema.describe("Number of lines in the file."),
        }),
      )
      .describe("Reject files that count, with the number of lines in each."),
  })
  .refine(namesOwnKeysOnly, { message: "a manifest may only name files of its own run" })
  .meta({ title: "runs/<run>/manifest.json", description: "What a sealed run consists of. It is written last." });
/** Content list of a sealed run. */
export type Manifest = z.infer<typeof manifestSchema>;

/** `latest.json` */
export const latestSchema = z
  .strictObject({
    version: versionSchema.describe("Format version; readers refuse any other."),
    run: runIdSchema.describe("Id of the run."),
    sealedAt: z.iso.datetime().describe("Time at which the run was sealed."),
  })
  .meta({ title: "latest.json", description: "Run that was sealed last." });
/** The run that was sealed last. */
export type Latest = z.infer<typeof latestSchema>;
