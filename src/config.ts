/** Every option of the command line with its environment variable. Nothing else reads the environment. */
import { availableParallelism, homedir, hostname } from "node:os";
import { join } from "node:path";
import { InvalidArgumentError, Option } from "commander";
import { overlapPolicySchema, scheduleNameSchema } from "./core/schedule.ts";
import { ALL_HEADS, chunkingSchema, precisionSchema, runIdSchema, vectorTypeSchema } from "./core/contracts.ts";
import { FleetError } from "./core/errors.ts";
import { DEFAULT_GUARDS } from "./core/guards.ts";
import { PUBLISHED_WEIGHTS } from "./core/scoring.ts";
import { formatSchema } from "./core/selection.ts";
import { EXPORT_FORMAT_NAMES } from "./results/export/format.ts";
import {
  condition,
  depthList,
  deviceList,
  fraction,
  headList,
  headWeights,
  httpUrl,
  limit,
  keptNames,
  nameList,
  placeList,
  portNumber,
  precisionList,
  repeated,
  severalTimes,
  tableName,
  wholeNumber,
} from "./option-values.ts";

const PREFIX = "EMBEDFLEET_";

/** Never an option: command lines are seen by everybody. */
export function hubToken(): string | undefined {
  return process.env["HF_TOKEN"] || undefined;
}

/** The user's cache by the XDG rules. */
export function cacheFolder(): string {
  return join(process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache"), "embedfleet");
}

/** @returns A schedule's name, checked. */
export function parseScheduleName(text: string): string {
  const parsed = scheduleNameSchema.safeParse(text);
  if (parsed.success) return parsed.data;
  throw new InvalidArgumentError(`It must be ${parsed.error.issues[0]?.message ?? "a plain name"}.`);
}

/** @returns The run id, checked. */
export function parseRunId(text: string): string {
  const parsed = runIdSchema.safeParse(text);
  if (parsed.success) return parsed.data;
  throw new InvalidArgumentError(`It must be ${parsed.error.issues[0]?.message ?? "a plain name"}.`);
}

function option(flags: string, help: string, env: string = envName(flags)): Option {
  const made = new Option(flags, help);
  return made.required || made.optional || !isSwitchedOff(env) ? made.env(env) : made;
}

/** commander takes a switch for on whatever its variable says, `false` too. @throws FleetError `bad_usage` */
function isSwitchedOff(env: string): boolean {
  const value = process.env[env];
  if (value === undefined || /^(?:1|true|yes|on)$/i.test(value)) return false;
  if (/^(?:|0|false|no|off)$/i.test(value)) return true;
  throw new FleetError("bad_usage", `the environment variable ${env} is ${JSON.stringify(value)}`, {
    cure: "it stands for a switch: say true or false, or leave it out",
  });
}

/** `--max-tokens <n>` is `EMBEDFLEET_MAX_TOKENS`. */
function envName(flags: string): string {
  const long = /--([a-z0-9-]+)/.exec(flags)![1]!;
  return PREFIX + long.replaceAll("-", "_").toUpperCase();
}

/** Functions, because a commander option keeps the state of the command it was added to. */
export const OPTIONS = {
  out: () => option("--out <url>", "the store: file:///folder, s3://bucket/prefix or a path").makeOptionMandatory(),
  redis: () =>
    option("--redis <url>", "the queue's Redis: redis://, rediss://, redis+sentinel:// or unix:///socket", "REDIS_URL"),
  allowVolatileRedis: () =>
    option(
      "--allow-volatile-redis",
      "take a Redis that keeps nothing on disk; workers heal what its restart loses",
    ).default(false),
  maxBacklog: () =>
    option("--max-backlog <n>", "planning waits while this many jobs are queued, or Redis is 60 % full")
      .argParser(wholeNumber(1))
      .default(100_000),
  unsafeStore: () =>
    option("--unsafe-store", "take a store that fails the checks at start; says what may be lost").default(false),
  fleet: () => option("--fleet <name>", "workers take the jobs of their own fleet only").default("default"),
  run: () => option("--run <id>", "the run's id; a new one by default").argParser(parseRunId),
  lockSeconds: () =>
    option("--lock-seconds <n>", "how long a dead worker keeps its jobs from the others, by two thirds more at most")
      .argParser(wholeNumber(3))
      .default(30),
  tendSeconds: () =>
    option("--tend-seconds <n>", "how often jobs lost by Redis are looked for and whole runs sealed")
      .argParser(wholeNumber(1))
      .default(30),
  ofRun: () => option("--run <id>", "the run to look in; the latest by default").argParser(parseRunId),
  model: () => option("--model <name>", "a model's name or the path of its folder").default("mini"),
  hub: () =>
    option("--hub <url>", "the Hugging Face hub, or a server with its layout", "HF_ENDPOINT")
      .argParser(httpUrl)
      .default("https://huggingface.co"),
  from: () => option("--from <url>", "a mirror of the model's files: file:///folder or s3://bucket/prefix"),
  reference: () =>
    option("--reference <file>", "what to hold the model to; by default the reference.json in its folder"),
  keepFigures: () => option("--keep <folder>", "write the figures as JSON and a chart as SVG into this folder"),
  models: () =>
    option("--models <folder>", "where pulled models lie").default(
      join(cacheFolder(), "models"),
      "$XDG_CACHE_HOME/embedfleet/models or ~/.cache/embedfleet/models",
    ),
  precision: () =>
    option("--precision <name>", "of the weights; auto is the most exact there are")
      .choices(["auto", ...precisionSchema.options])
      .default("auto"),
  precisions: () =>
    option("--precisions <list>", "weights to write")
      .argParser(precisionList)
      .default([...precisionSchema.options], precisionSchema.options.join(",")),
  keepFloat: () =>
    option("--keep-float <patterns>", "layers that int8 leaves in float32, as in 'layers.0.*,*.ffn.down'")
      .argParser((text) => text.split(",").map((pattern) => pattern.trim()))
      .default([], "what the model is known to need; 'none' keeps none"),
  tensorrt: () => option("--tensorrt", "compile TensorRT engines for this machine's GPU too").default(false),
  into: () => option("--into <folder>", "the folder to write, for --model").makeOptionMandatory(),
  dim: () =>
    option("--dim <n>", "cut dense vectors to this width, for models trained for it").argParser(wholeNumber(1)),
  heads: () =>
    option("--heads <list>", "vectors to make")
      .argParser(headList)
      .default([...ALL_HEADS], ALL_HEADS.join(",")),
  vectors: () =>
    option("--vectors <type>", "what dense and ColBERT vectors are written as; float16 halves them")
      .choices(vectorTypeSchema.options)
      .default("float32"),
  maxTokens: () =>
    option("--max-tokens <n>", "longest row, special tokens included; longer documents are cut")
      .argParser(wholeNumber(3))
      .default(8192),
  chunking: () =>
    option("--chunking <how>", "whole documents up to --max-tokens, or chunks of --chunk-tokens cut at these places")
      .choices(chunkingSchema.options)
      .default("document"),
  chunkTokens: () =>
    option("--chunk-tokens <n>", "longest chunk, special tokens included; 512 by default").argParser(wholeNumber(3)),
  overlap: () =>
    option("--overlap <n>", "tokens that neighbouring pieces of a document share").argParser(wholeNumber(0)).default(0),
  since: () =>
    option(
      "--since <run>",
      "embed only what is new or changed since that sealed run; 'latest' for the one sealed last",
    ).argParser(parseRunId),
  idField: () =>
    option("--id-field <path>", "field or column of a document's id; dots lead into objects").default("id"),
  textField: () =>
    option("--text-field <paths>", "field or column of its text; several are joined in order by a blank line")
      .argParser(severalTimes(nameList))
      .default(["text"], "text"),
  format: () => option("--format <name>", "how inputs are read").choices(formatSchema.options).default("auto"),
  where: () =>
    option("--where <condition>", "only documents it holds for: lang=en, year>=2020, a!=b; all of several")
      .argParser(severalTimes(condition))
      .default([], "all documents"),
  sample: () =>
    option("--sample <fraction>", "part of the documents to take, chosen by their ids")
      .argParser(fraction)
      .default(1, "all"),
  limit: () => option("--limit <n>", "at most so many documents, the first ones").argParser(wholeNumber(1)),
  keep: () =>
    option("--keep <paths>", "fields or columns to carry to the output, as text columns of the same names")
      .argParser(severalTimes(keptNames))
      .default([], "none"),
  strict: () => option("--strict", "stop at the first document that is rejected").default(false),
  dedupe: () => option("--dedupe", "embed equal texts once, and write a row for each").default(false),
  keepText: () => option("--keep-text", "put each row's text into the output").default(false),
  maxDocumentBytes: () =>
    option("--max-document-bytes <n>", "a longer line, row or file is rejected")
      .argParser(wholeNumber(1))
      .default(64 * 1024 * 1024),
  distributed: () =>
    option(
      "--distributed",
      "let `embedfleet produce <run>` elsewhere read and tokenise parts of the corpus too",
    ).default(false),
  producerThreads: () =>
    option(
      "--producer-threads <n>",
      "threads that read and tokenise; by default one for three cores, eight at most. The plan is the same",
    )
      .argParser(wholeNumber(1))
      .default(Math.min(8, Math.ceil(availableParallelism() / 3)), "by the cores"),
  maxRejects: () =>
    option(
      "--max-rejects <limit>",
      "most rejected documents: a number stops the producer, a share of those read (50%) leaves the run unsealed",
    )
      .argParser(limit)
      .default(DEFAULT_GUARDS.maxRejects),
  maxDeletes: () =>
    option(
      "--max-deletes <limit>",
      "most documents of the base that may be gone from the corpus, a number or a share; beyond it the run is held",
    )
      .argParser(limit)
      .default(DEFAULT_GUARDS.maxDeletes),
  accept: () => option("--accept", "seal the run although it is beyond --max-rejects or --max-deletes").default(false),
  workers: () =>
    option("--workers <n>", "worker processes on this machine; at least one a device")
      .argParser(wholeNumber(1))
      .default(1),
  device: () =>
    option("--device <names>", "where the model runs: auto, cpu, cuda:N or tensorrt:N; several with commas")
      .argParser(deviceList)
      .default(["auto"], "auto"),
  threads: () =>
    option("--threads <n>", "CPU threads of the model; all cores by default")
      .argParser(wholeNumber(1))
      .default(availableParallelism(), "all cores"),
  maxBatchTokens: () =>
    option("--max-batch-tokens <n>", "largest padded area of a batch").argParser(wholeNumber(1)).default(16_384),
  maxBatchRows: () => option("--max-batch-rows <n>", "most rows of a batch").argParser(wholeNumber(1)).default(512),
  maxBatchSeconds: () =>
    option(
      "--max-batch-seconds <n>",
      "a device that gives no answer for longer hangs: the worker gives its jobs up and ends",
    )
      .argParser(wholeNumber(1))
      .default(600),
  maxHeldBytes: () =>
    option("--max-held-bytes <n>", "memory for shards that are worked on or written, their files included")
      .argParser(wholeNumber(1))
      .default(1024 ** 3),
  cacheFolder: () =>
    option("--cache-folder <path>", "where what was measured on this machine is kept", "EMBEDFLEET_CACHE").default(
      cacheFolder(),
      "$XDG_CACHE_HOME/embedfleet or ~/.cache/embedfleet",
    ),
  exitWhenDone: () =>
    option(
      "--exit-when-done",
      "end when the queue is empty and no corpus is being read; with exit code 1 when a run is not sealed",
    ).default(false),
  keepStaging: () => option("--keep-staging", "keep the staged token ids after the seal").default(false),
  json: () => option("--json", "end with one JSON object on standard output").default(false),
  logLevel: () =>
    option("--log-level <level>", "least level of log lines")
      .choices(["debug", "info", "warn", "error", "silent"])
      .default("info"),
  metricsPort: () =>
    option("--metrics-port <n>", "serve /metrics and /healthz on this port; 0 takes a free one").argParser(portNumber),
  metricsHost: () => option("--metrics-host <address>", "address that --metrics-port listens on").default("127.0.0.1"),
  metricsPush: () => option("--metrics-push <url>", "a Pushgateway that gets the metrics when the command ends"),
  watch: () => option("--watch", "draw again and again, as in a terminal, until the run is over").default(false),
  file: () => option("--file <path>", "where the report goes; <run>.html by default"),
  host: () =>
    option("--host <address>", "address to listen on; beyond this machine it needs a --token").default("127.0.0.1"),
  port: () => option("--port <n>", "port to listen on; 0 takes a free one").argParser(portNumber).default(7878),
  token: () =>
    option("--token <secret>", "what callers must show; better in its environment variable, which `ps` does not show"),
  s3Endpoint: () => option("--s3-endpoint <url>", "another S3 server than AWS", "AWS_ENDPOINT_URL_S3"),
  s3TimeoutSeconds: () =>
    option(
      "--s3-timeout-seconds <n>",
      "a connection to S3 that is silent for longer is given up, and the call repeated",
    )
      .argParser(wholeNumber(1))
      .default(60),
  s3Region: () => option("--s3-region <name>", "region of the bucket", "AWS_REGION"),
  weights: () =>
    option("--weights <list>", `what each head counts in a score: ${ALL_HEADS.join(",")}`)
      .argParser(headWeights)
      .default(PUBLISHED_WEIGHTS, ALL_HEADS.map((head) => PUBLISHED_WEIGHTS[head]).join(",")),
  withText: () => option("--text", "show the rows' texts, in a run that kept them").default(false),
  ofRuns: () =>
    option("--run <id>", "a run to look in; may be repeated, the latest by default").argParser(repeated(parseRunId)),
  questions: () =>
    option("--questions <path>", "JSONL of question, relevant document ids and lang").makeOptionMandatory(),
  at: () => option("--at <list>", "depths to measure at").argParser(depthList).default([1, 10, 100], "1,10,100"),
  candidates: () =>
    option("--candidates <n>", "best documents of dense and sparse that ColBERT ranks again; 0 for all documents")
      .argParser(wholeNumber(0))
      .default(200),
  to: () => option("--to <format>", "what the files are for").choices(EXPORT_FORMAT_NAMES).makeOptionMandatory(),
  toIndex: () => option("--to <url>", "the index: lancedb:// and a folder or s3://bucket/prefix").makeOptionMandatory(),
  index: () => option("--index <url>", "an index to look in, instead of the run's files: lancedb://…"),
  table: () => option("--table <name>", "the index's table").argParser(tableName).default("embeddings"),
  indexHeads: () =>
    option("--heads <list>", "vectors to put in, those of dense in any case")
      .argParser(headList)
      .default(["dense", "sparse"], "dense,sparse"),
  fullText: () => option("--full-text", "make a full-text index of the kept texts").default(false),
  dest: () => option("--dest <url>", "where to: file:///folder, s3://bucket/prefix or a path").makeOptionMandatory(),
  ofHeads: () =>
    option("--heads <list>", "vectors to take; all that the run and the target have by default").argParser(headList),
  ofModels: () =>
    option(
      "--model <name>",
      "a model's name or folder, to embed queries; may be repeated, the run's own by default",
    ).argParser(repeated((text) => text)),
  cron: () => option("--cron <pattern>", 'minute hour day month weekday, as in "0 2 * * *"').makeOptionMandatory(),
  tz: () => option("--tz <zone>", "time zone that the pattern is read in, such as Europe/Helsinki").default("UTC"),
  overlapPolicy: () =>
    option("--overlap-policy <policy>", "what a tick does while the run before is still going")
      .choices(overlapPolicySchema.options)
      .default("wait"),
  webhook: () => option("--webhook <url>", "URL that receives a signed POST when a run is sealed or fails"),
  scheduleInputs: () =>
    option("--schedule-inputs <places...>", "folders and s3://bucket/prefix that an unsigned schedule may read")
      .argParser(severalTimes(placeList))
      .default([], "none"),
  inputsBelow: () =>
    option(
      "--inputs-below <places...>",
      "folders and s3://bucket/prefix that the run's corpus must lie below; without it the run's record decides alone",
    )
      .argParser(severalTimes(placeList))
      .default([], "none"),
  webhookHosts: () =>
    option(
      "--webhook-hosts <hosts...>",
      "hosts that an unsigned schedule may tell, and hosts of a private network that any may tell",
    )
      .argParser(severalTimes(placeList))
      .default([], "none"),
  delete: () => option("--delete", "remove them; without it they are only listed").default(false),
  abandonedDays: () =>
    option(
      "--abandoned-days <n>",
      "an unsealed run that no fleet is at work on may go when nothing was written to it for longer",
    )
      .argParser(wholeNumber(1))
      .default(30),
  top: () => option("--top <n>", "how many rows to show").argParser(wholeNumber(1)).default(10),
} as const;

/** What `enqueue` is told of a corpus, and a schedule keeps. */
export const PLAN_OPTIONS = [
  "model",
  "models",
  "precision",
  "heads",
  "dim",
  "vectors",
  "maxTokens",
  "chunking",
  "chunkTokens",
  "overlap",
  "idField",
  "textField",
  "format",
  "where",
  "sample",
  "limit",
  "keep",
  "keepText",
  "dedupe",
  "maxDocumentBytes",
  "maxRejects",
  "maxDeletes",
  "strict",
  "maxBacklog",
] as const satisfies (keyof typeof OPTIONS)[];

/** Signs what webhooks are told. In the environment alone: a flag would show in lists of processes. */
export function webhookSecret(): string | undefined {
  return process.env[`${PREFIX}WEBHOOK_SECRET`];
}

/** Where the secret is that signs schedules, and tells `control` that they are not someone else's. */
export function scheduleKeyPlaces(): { secret: string | undefined; folder: string } {
  const folder = process.env["XDG_CONFIG_HOME"] || join(homedir(), ".config");
  return { secret: process.env[`${PREFIX}SCHEDULE_SECRET`], folder: join(folder, "embedfleet") };
}

/** Names this process in logs and in `status`. */
export function workerName(): string {
  return `${hostname()}-${process.pid}`;
}
