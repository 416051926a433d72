/**
 * Settings of the library's calls, one schema for each use: the source of types, defaults and help texts, and of the
 * command line's options and variables. No environment is read: defaults depend only on the machine.
 */
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { z } from "zod";
import type { InferenceEngine } from "../../models/engine.ts";
import { ALL_HEADS, runIdSchema } from "../core/contracts.ts";
import { homeFolder } from "./home-folder.ts";
import { DEFAULT_GUARDS } from "../core/guards.ts";
import { scheduleOptionsSchema } from "../core/schedule.ts";
import { tableSettings } from "./table-settings.ts";

/** The user's cache by default. */
function userCache(): string {
  return join(homeFolder(), ".cache", "embedfleet");
}

const OF_CORES = "all cores";

/** Settings such as `--where`, from the schema that schedules store them by. */
const planned = scheduleOptionsSchema.shape;

export const s3Settings = z.object({
  s3Endpoint: z.string().exactOptional().meta({
    value: "url",
    description: "S3 server to use instead of AWS",
    variable: "AWS_ENDPOINT_URL_S3",
  }),
  s3Region: z.string().exactOptional().meta({
    value: "name",
    description: "region of the S3 bucket",
    variable: "AWS_REGION",
  }),
  s3TimeoutSeconds: z.int().min(1).default(60).meta({
    value: "n",
    description: "idle timeout of an S3 connection; on expiry the request is repeated",
  }),
});

const out = z
  .string()
  .meta({ value: "url", description: "store of the runs: file:///folder, s3://bucket/prefix or a path" });

export const storeSettings = z.object({ out, ...s3Settings.shape });

export const queueSettings = z.object({
  redis: z.string().exactOptional().meta({
    value: "url",
    description: "Redis server of the queue: redis://, rediss://, redis+sentinel:// or unix:///socket",
    variable: "REDIS_URL",
  }),
  allowVolatileRedis: z.boolean().default(false).meta({
    description: "accept a Redis server without persistence; workers queue again what its restart loses",
  }),
  fleet: z.string().default("default").meta({
    value: "name",
    description: "name of the fleet; workers take jobs of their own fleet only",
  }),
});

export const modelSettings = z.object({
  model: planned.model.unwrap().default("mini").meta({
    value: "name",
    description: "name of a model, or path of its folder",
  }),
  models: planned.models
    .unwrap()
    .default(() => join(userCache(), "models"))
    .meta({
      value: "folder",
      description: "folder of the pulled models",
      byDefault: "$XDG_CACHE_HOME/embedfleet/models or ~/.cache/embedfleet/models",
    }),
  precision: planned.precision.unwrap().default("auto").meta({
    value: "name",
    description: "weight precision (auto: the most precise available)",
  }),
  // A program that uses the library may register an engine of its own.
  engine: z
    .union([planned.engine.unwrap(), z.custom<InferenceEngine>((value) => typeof value === "object" && value !== null)])
    .exactOptional()
    .meta({
      value: "name",
      description: "inference engine that computes the model",
      byDefault: "the one that the model's manifest names, else onnx",
    }),
});

export const cacheSettings = z.object({
  cacheFolder: z.string().default(userCache).meta({
    value: "path",
    description: "folder for what was measured on this machine, and for digests of model files",
    byDefault: "$XDG_CACHE_HOME/embedfleet or ~/.cache/embedfleet",
    variable: "EMBEDFLEET_CACHE",
  }),
});

/** The options of a plan, which determine the rows of a corpus: exactly those that a schedule stores. */
export const planSettings = z.object({
  ...modelSettings.shape,
  heads: planned.heads
    .unwrap()
    .exactOptional()
    .meta({
      value: "list",
      description: `vector types to produce: ${ALL_HEADS.join(",")}`,
      byDefault: "all that the model has",
    }),
  prompt: planned.prompt.unwrap().exactOptional().meta({
    value: "name|text",
    description:
      "prompt before every document: one of the model's by name, else a text, which has a blank or a colon in it",
    byDefault: "the model's own for documents",
  }),
  dim: planned.dim.unwrap().exactOptional().meta({
    value: "n",
    description: "dimensions to keep of dense vectors, for models trained for it (Matryoshka)",
    byDefault: "all",
  }),
  vectors: planned.vectors.unwrap().default("float32").meta({
    value: "type",
    description: "number type of dense and ColBERT vectors in the output; float16 halves their size",
  }),
  maxTokens: planned.maxTokens.unwrap().exactOptional().meta({
    value: "n",
    description: "maximum tokens per row, including special tokens; longer documents are truncated",
    byDefault: "as many as the model takes, at most 8192",
  }),
  chunking: planned.chunking.unwrap().default("document").meta({
    value: "how",
    description: "how documents become rows: whole (up to --max-tokens), or in chunks of --chunk-tokens",
  }),
  chunkTokens: planned.chunkTokens.unwrap().exactOptional().meta({
    value: "n",
    description: "maximum tokens per chunk, including special tokens",
    byDefault: "512",
  }),
  overlap: planned.overlap.unwrap().default(0).meta({
    value: "n",
    description: "tokens shared by neighbouring chunks of a document",
  }),
  idField: planned.idField.unwrap().default("id").meta({
    value: "path",
    description: "field or column that holds the document's id; dots descend into objects",
  }),
  generateId: planned.generateId.unwrap().exactOptional().meta({
    value: "how",
    description: "id of a document that has none: from its file and row, or from its text",
    byDefault: "it is rejected",
  }),
  textField: planned.textField.unwrap().default(["text"]).meta({
    value: "paths",
    description: "fields or columns that hold the text, joined in this order by a blank line",
    byDefault: "text",
  }),
  format: planned.format.unwrap().default("auto").meta({ value: "name", description: "format of the inputs" }),
  noFollow: planned.noFollow.unwrap().default(false).meta({
    description: "pass over symbolic links within folders instead of following them",
  }),
  ...tableSettings.shape,
  where: planned.where.unwrap().default([]).meta({
    value: "condition",
    description: "only documents that match, e.g. lang=en, year>=2020 or a!=b; repeat to combine with AND",
    byDefault: "all documents",
  }),
  sample: planned.sample.unwrap().default(1).meta({
    value: "fraction",
    description: "fraction of the documents to take, chosen by their ids",
    byDefault: "all",
  }),
  limit: planned.limit.unwrap().exactOptional().meta({
    value: "n",
    description: "maximum number of documents; the first ones are taken",
    byDefault: "no limit",
  }),
  keep: planned.keep.unwrap().default([]).meta({
    value: "paths",
    description: "fields or columns to copy into the output, as text columns of the same names",
    byDefault: "none",
  }),
  clean: planned.clean.unwrap().default("nul").meta({
    value: "what",
    description: "characters to replace in texts by U+FFFD: NUL, or all that no text has (also half surrogate pairs)",
  }),
  keepText: planned.keepText.unwrap().default(false).meta({ description: "store each row's text in the output" }),
  dedupe: planned.dedupe.unwrap().default(false).meta({
    description: "embed equal texts once, and write a row for each of them",
  }),
  allowBatchDependent: planned.allowBatchDependent.unwrap().default(false).meta({
    description: "accept a model whose vectors depend on the rows that share a batch, so that a retry changes them",
  }),
  maxDocumentBytes: planned.maxDocumentBytes
    .unwrap()
    .default(64 * 1024 * 1024)
    .meta({
      value: "n",
      description: "maximum bytes per line, row or file; longer ones are rejected",
    }),
  maxRejects: planned.maxRejects.unwrap().default(DEFAULT_GUARDS.maxRejects).meta({
    value: "limit",
    description:
      "most rejected documents: a number stops the producer, a share of those read (50%) leaves the run unsealed",
  }),
  maxDeletes: planned.maxDeletes.unwrap().default(DEFAULT_GUARDS.maxDeletes).meta({
    value: "limit",
    description:
      "most documents of the base that may be gone from the corpus, a number or a share; beyond it the run is held",
  }),
  strict: planned.strict.unwrap().default(false).meta({ description: "stop at the first rejected document" }),
  maxBacklog: planned.maxBacklog.unwrap().default(100_000).meta({
    value: "n",
    description: "maximum queued jobs; planning pauses while there are more, or while Redis is 60 % full",
  }),
} satisfies Record<keyof typeof planned, z.ZodType>);

export const metricsSettings = z.object({
  metricsPort: z.int().min(0).max(65_535).exactOptional().meta({
    value: "n",
    description: "port that serves /metrics and /healthz; 0 takes a free one",
    byDefault: "not served",
  }),
  metricsHost: z.string().default("127.0.0.1").meta({
    value: "address",
    description: "address that --metrics-port listens on",
  }),
  metricsPush: z.string().exactOptional().meta({
    value: "url",
    description: "Pushgateway that receives the metrics when the command ends",
  }),
  token: z.string().exactOptional().meta({
    value: "secret",
    description: "secret that HTTP clients must present; prefer the environment variable, which `ps` does not show",
  }),
});

export const lockSettings = z.object({
  lockSeconds: z.int().min(3).default(30).meta({
    value: "n",
    description: "job lock duration; a dead worker's jobs are retried after at most 5/3 of this",
  }),
});

export const riskSettings = z.object({
  unsafeStore: z.boolean().default(false).meta({
    description: "use a store that fails the checks at start, and print what may be lost",
  }),
});

export const reconcileSettings = z.object({
  keepStaging: z.boolean().default(false).meta({ description: "keep the staged token ids after the run is sealed" }),
  reconcileSeconds: z.int().min(1).default(30).meta({
    value: "n",
    description: "interval at which jobs lost by Redis are queued again and complete runs are sealed",
  }),
});

const producerSettings = z.object({
  producerThreads: z
    .int()
    .min(1)
    .default(() => Math.min(8, Math.ceil(availableParallelism() / 3)))
    .meta({
      value: "n",
      description: "threads that read and tokenise the corpus; the plan does not depend on their number",
      byDefault: "one per three cores, at most 8",
    }),
});

/** Settings of `embedfleet enqueue`. */
export const enqueueSettings = z.object({
  out,
  run: runIdSchema.exactOptional().meta({
    value: "id",
    description: "id of the run; an existing run is continued",
    byDefault: "a new one",
  }),
  since: runIdSchema.exactOptional().meta({
    value: "run",
    description: "embed only what is new or changed since that sealed run; 'latest' is the one sealed last",
  }),
  ...planSettings.shape,
  ...producerSettings.shape,
  distributed: z.boolean().default(false).meta({
    description: "let `embedfleet produce <run>` on other machines read and tokenise parts of the corpus",
    command: "enqueue",
  }),
  ...lockSettings.shape,
  ...queueSettings.shape,
  ...metricsSettings.shape,
  ...riskSettings.shape,
  ...cacheSettings.shape,
  ...s3Settings.shape,
});

/** Settings of `embedfleet produce`. */
export const produceSettings = z.object({
  out,
  model: modelSettings.shape.model,
  models: modelSettings.shape.models,
  inputsBelow: z.array(z.string()).default([]).meta({
    value: "places...",
    description: "folders and s3://bucket/prefix that the run's corpus must lie below",
    byDefault: "anywhere that the run's record names",
    command: "produce",
  }),
  ...producerSettings.shape,
  ...lockSettings.shape,
  ...queueSettings.shape,
  ...metricsSettings.shape,
  ...riskSettings.shape,
  ...cacheSettings.shape,
  ...s3Settings.shape,
});

export const deviceSettings = z.object({
  threads: z
    .int()
    .min(1)
    .default(() => availableParallelism())
    .meta({ value: "n", description: "CPU threads of the model", byDefault: OF_CORES }),
  maxBatchTokens: z.int().min(1).default(16_384).meta({
    value: "n",
    description: "maximum tokens per batch, including padding",
  }),
});

/** Settings of one worker. */
export const workerSettings = z.object({
  out,
  ...modelSettings.shape,
  ...queueSettings.shape,
  ...deviceSettings.shape,
  maxBatchRows: z.int().min(1).default(512).meta({ value: "n", description: "maximum rows per batch" }),
  maxBatchSeconds: z.int().min(1).default(600).meta({
    value: "n",
    description: "batch timeout; on expiry the worker releases its jobs and exits",
  }),
  maxHeldBytes: z
    .int()
    .min(1)
    .default(1024 ** 3)
    .meta({ value: "n", description: "memory budget for shards in progress, including their output files" }),
  ...cacheSettings.shape,
  ...reconcileSettings.shape,
  ...lockSettings.shape,
  exitWhenDone: z.boolean().default(false).meta({
    description: "exit when the queue is empty and no corpus is being read; the exit code is 1 if a run is not sealed",
    command: "work",
  }),
  ...metricsSettings.shape,
  ...riskSettings.shape,
  ...s3Settings.shape,
});

/** Settings of the process that hosts a store's schedules and makes their runs. */
export const scheduleHostSettings = z.object({
  out,
  ...queueSettings.shape,
  models: modelSettings.shape.models,
  scheduleInputs: z.array(z.string()).default([]).meta({
    value: "places...",
    description: "folders and s3://bucket/prefix that an unsigned schedule may read",
    byDefault: "none",
    command: "control",
  }),
  webhookHosts: z.array(z.string()).default([]).meta({
    value: "hosts...",
    description: "hosts that an unsigned schedule may notify, and hosts of a private network that any may notify",
    byDefault: "none",
    command: "control",
  }),
  ...riskSettings.shape,
  ...cacheSettings.shape,
  ...s3Settings.shape,
});

export type StoreSettings = z.infer<typeof storeSettings>;
export type QueueSettings = z.infer<typeof queueSettings>;
export type PlanSettings = z.infer<typeof planSettings>;
export type ModelSettings = z.infer<typeof modelSettings> & z.infer<typeof cacheSettings>;
export type MetricsSettings = z.infer<typeof metricsSettings>;
export type EnqueueSettings = z.infer<typeof enqueueSettings>;
export type WorkerSettings = z.infer<typeof workerSettings>;
export type ScheduleHostSettings = z.infer<typeof scheduleHostSettings>;

/** Settings as a caller of the library passes them: all with a default are optional. */
export type Given<Schema extends z.ZodType> = Readonly<Omit<z.input<Schema>, "out" | "redis">>;

/** The names of a plan's options, in the order of the help. */
export const PLAN_NAMES = Object.keys(planSettings.shape) as (keyof PlanSettings)[];
