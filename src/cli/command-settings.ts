/** Settings schemas of the commands, one each: the fleet's settings that apply, and the command's own. */
import { z } from "zod";
import { ALL_HEADS, headSchema, runIdSchema } from "../core/contracts.ts";
import { overlapPolicySchema } from "../core/schedule.ts";
import { PUBLISHED_WEIGHTS } from "../core/scoring.ts";
import {
  cacheSettings,
  deviceSettings,
  enqueueSettings,
  metricsSettings,
  modelSettings,
  planSettings,
  produceSettings,
  queueSettings,
  reconcileSettings,
  riskSettings,
  scheduleHostSettings,
  storeSettings,
  workerSettings,
} from "../fleet/settings.ts";
import { EXPORT_FORMAT_NAMES } from "../results/export/format.ts";
import {
  deviceSchema,
  jsonSettings,
  type LogSettings,
  logSettings,
  placeSettings,
  s3AndLog,
} from "./shared-settings.ts";

const { out } = storeSettings.shape;
const { models } = modelSettings.shape;
const { threads } = deviceSettings.shape;

const processSettings = z.object({
  workers: z.int().min(1).default(1).meta({
    value: "n",
    description: "worker processes on this machine; at least one per device",
  }),
  ...placeSettings.shape,
});

const { exitWhenDone, ...oneWorker } = workerSettings.shape;

export const enqueueCommand = z.object({ ...enqueueSettings.shape, ...logSettings.shape, ...jsonSettings.shape });

const { distributed: _alone, ...planned } = enqueueSettings.shape;
export const runCommand = z.object({
  ...planned,
  ...processSettings.shape,
  ...oneWorker,
  ...logSettings.shape,
  ...jsonSettings.shape,
});

export const workCommand = z.object({
  ...oneWorker,
  ...processSettings.shape,
  exitWhenDone,
  ...logSettings.shape,
  ...jsonSettings.shape,
});

/** Settings that a parent process sends to the process of one worker. */
export const workerProcess = z.object({
  ...workerSettings.shape,
  device: deviceSchema,
  ...logSettings.shape,
  ...jsonSettings.shape,
});

export const produceCommand = z.object({ ...produceSettings.shape, ...logSettings.shape, ...jsonSettings.shape });

export const controlCommand = z.object({
  ...scheduleHostSettings.shape,
  host: z.string().default("127.0.0.1").meta({
    value: "address",
    description: "address to listen on; any other than this machine's own requires --token",
    command: "control",
  }),
  port: z.int().min(0).max(65_535).default(7878).meta({
    value: "n",
    description: "port to listen on; 0 takes a free one",
    command: "control",
  }),
  token: metricsSettings.shape.token,
  ...reconcileSettings.shape,
  ...logSettings.shape,
});

export const statusCommand = z.object({
  out,
  ...queueSettings.shape,
  watch: z.boolean().default(false).meta({
    description: "redraw until the run is over, as in a terminal",
    command: "status",
  }),
  ...s3AndLog,
  ...jsonSettings.shape,
});

/** Settings of `resume` and `cancel`. */
export const steerCommand = z.object({ out, ...queueSettings.shape, ...s3AndLog, ...jsonSettings.shape });

export const cancelCommand = z.object({
  out,
  yes: z.boolean().default(false).meta({
    description: "do not ask for confirmation; required where there is no terminal",
    command: "cancel",
  }),
  ...queueSettings.shape,
  ...s3AndLog,
  ...jsonSettings.shape,
});

export const sealCommand = z.object({
  out,
  accept: z.boolean().default(false).meta({
    description: "seal the run although it exceeds --max-rejects or --max-deletes",
    command: "seal",
  }),
  keepStaging: reconcileSettings.shape.keepStaging,
  ...s3AndLog,
  ...jsonSettings.shape,
});

export const compactCommand = z.object({ out, ...riskSettings.shape, ...s3AndLog, ...jsonSettings.shape });

export const gcCommand = z.object({
  out,
  delete: z.boolean().default(false).meta({ description: "delete the runs instead of listing them", command: "gc" }),
  abandonedDays: z.int().min(1).default(30).meta({
    value: "n",
    description: "age of the last write after which an unsealed run that no fleet works on counts as abandoned",
    command: "gc",
  }),
  ...s3AndLog,
  ...jsonSettings.shape,
});

export const reportCommand = z.object({
  out,
  file: z.string().exactOptional().meta({
    value: "path",
    description: "file to write the report to",
    byDefault: "<run>.html",
    command: "report",
  }),
  ...s3AndLog,
  ...jsonSettings.shape,
});

export const verifyCommand = z.object({ ...s3AndLog, ...jsonSettings.shape });

/** Settings of commands that embed and rank queries. */
const querySettings = z.object({
  candidates: z.int().min(0).default(200).meta({
    value: "n",
    description: "documents that dense and sparse select for ColBERT to rank again; 0 for all documents",
  }),
  weights: z
    .strictObject({ dense: z.number(), sparse: z.number(), colbert: z.number() })
    .default({ ...PUBLISHED_WEIGHTS })
    .meta({
      value: "list",
      description: `weights of the vector types in a score: ${ALL_HEADS.join(",")}`,
      byDefault: ALL_HEADS.map((head) => PUBLISHED_WEIGHTS[head]).join(","),
    }),
  model: z.array(z.string()).exactOptional().meta({
    value: "name",
    description: "name of a model that embeds the queries, or path of its folder; may be repeated",
    byDefault: "the run's own",
    variable: "EMBEDFLEET_QUERY_MODEL",
  }),
  prompt: planSettings.shape.prompt.unwrap().exactOptional().meta({
    value: "name|text",
    description:
      "prompt before every query: one of the model's by name, else a text, which has a blank or a colon in it",
    byDefault: "the model's own for queries",
    variable: "EMBEDFLEET_QUERY_PROMPT",
  }),
  models,
  threads,
  ...cacheSettings.shape,
});

const tableSettings = z.object({
  table: z
    .string()
    .regex(/^[A-Za-z][A-Za-z0-9_]{0,62}$/, "1 to 63 letters, digits or '_', starting with a letter")
    .default("embeddings")
    .meta({ value: "name", description: "table of the index" }),
});

export const searchCommand = z.object({
  run: runIdSchema.exactOptional().meta({
    value: "id",
    description: "run to search",
    byDefault: "the latest",
    command: "search",
  }),
  index: z.string().exactOptional().meta({
    value: "url",
    description: "index to search instead of the run's files: lancedb://...",
    command: "search",
  }),
  ...tableSettings.shape,
  top: z.int().min(1).default(10).meta({ value: "n", description: "number of rows to print", command: "search" }),
  text: z.boolean().default(false).meta({
    description: "print the rows' texts; the run must have been made with --keep-text",
    command: "search",
  }),
  ...querySettings.shape,
  ...s3AndLog,
  ...jsonSettings.shape,
});

export const evalCommand = z.object({
  questions: z.string().meta({
    value: "path",
    description: "JSONL file of questions, each with its relevant document ids and language",
    command: "eval",
  }),
  run: z.array(runIdSchema).exactOptional().meta({
    value: "id",
    description: "run to evaluate; may be repeated",
    byDefault: "the latest",
    command: "eval",
  }),
  at: z
    .array(z.int().min(1))
    .default([1, 10, 100])
    .meta({ value: "list", description: "ranks to measure at", byDefault: "1,10,100", command: "eval" }),
  ...querySettings.shape,
  ...s3AndLog,
  ...jsonSettings.shape,
});

export const indexCommand = z.object({
  to: z.string().meta({
    value: "url",
    description: "index to load into: lancedb:// and a folder or s3://bucket/prefix",
    command: "index",
  }),
  ...tableSettings.shape,
  heads: z.array(headSchema).min(1).default(["dense", "sparse"]).meta({
    value: "list",
    description: "vector types to load; dense is always loaded",
    byDefault: "dense,sparse",
    command: "index",
  }),
  fullText: z.boolean().default(false).meta({
    description: "build a full-text index of the stored texts",
    command: "index",
  }),
  ...s3AndLog,
  ...jsonSettings.shape,
});

export const exportCommand = z.object({
  to: z.enum(EXPORT_FORMAT_NAMES).meta({
    value: "format",
    description: "format of the exported files",
    command: "export",
  }),
  dest: z.string().meta({
    value: "url",
    description: "destination: file:///folder, s3://bucket/prefix or a path",
    command: "export",
  }),
  heads: z.array(headSchema).min(1).exactOptional().meta({
    value: "list",
    description: "vector types to export",
    byDefault: "all that the run and the format have",
    command: "export",
  }),
  ...s3AndLog,
  ...jsonSettings.shape,
});

/** Settings of `backfill list`, `remove`, `pause`, `resume` and `trigger`. */
export const schedulesCommand = z.object({ out, ...queueSettings.shape, ...s3AndLog, ...jsonSettings.shape });

export const addBackfillCommand = z.object({
  out,
  cron: z.string().meta({
    value: "pattern",
    description: 'when to run: minute hour day month weekday, e.g. "0 2 * * *"',
    command: "backfill",
  }),
  tz: z.string().default("UTC").meta({
    value: "zone",
    description: "time zone of the pattern, e.g. Europe/Helsinki",
    command: "backfill",
  }),
  overlapPolicy: overlapPolicySchema.default("wait").meta({
    value: "policy",
    description: "what happens to a run that is due while the one before is still going",
    command: "backfill",
  }),
  webhook: z.string().exactOptional().meta({
    value: "url",
    description: "URL that receives a signed POST when a run is sealed or fails",
    command: "backfill",
  }),
  since: enqueueSettings.shape.since,
  ...planSettings.shape,
  ...queueSettings.shape,
  ...s3AndLog,
  ...jsonSettings.shape,
});

export const doctorCommand = z.object({
  installGpu: z.boolean().default(false).meta({
    description: "download ONNX Runtime's libraries for GPUs (Linux x64, CUDA 12) first",
    command: "doctor",
  }),
  ...jsonSettings.shape,
});

export type EnqueueCommand = z.infer<typeof enqueueCommand>;
export type RunCommand = z.infer<typeof runCommand>;
export type WorkCommand = z.infer<typeof workCommand>;
export type WorkerProcess = z.infer<typeof workerProcess>;
export type ProduceCommand = z.infer<typeof produceCommand>;
export type ControlCommand = z.infer<typeof controlCommand>;
export type StatusCommand = z.infer<typeof statusCommand>;
export type SteerCommand = z.infer<typeof steerCommand>;
export type CancelCommand = z.infer<typeof cancelCommand>;
export type SealCommand = z.infer<typeof sealCommand>;
export type CompactCommand = z.infer<typeof compactCommand>;
export type GcCommand = z.infer<typeof gcCommand>;
export type ReportCommand = z.infer<typeof reportCommand>;
export type VerifyCommand = z.infer<typeof verifyCommand>;
export type QuerySettings = z.infer<typeof querySettings> & LogSettings;
export type SearchCommand = z.infer<typeof searchCommand>;
export type EvalCommand = z.infer<typeof evalCommand>;
export type IndexCommand = z.infer<typeof indexCommand>;
export type DoctorCommand = z.infer<typeof doctorCommand>;
export type ExportCommand = z.infer<typeof exportCommand>;
export type SchedulesCommand = z.infer<typeof schedulesCommand>;
export type AddBackfillCommand = z.infer<typeof addBackfillCommand>;
