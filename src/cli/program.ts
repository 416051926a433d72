/** The command table. What a command does is in `commands/`; how it ends is in `errors.ts`. */
import { Argument, Command, type Option } from "commander";
import { OPTIONS, parseRunId, parseScheduleName, PLAN_OPTIONS } from "../config.ts";
import { visibleLines } from "../core/visible.ts";

type OptionName = keyof typeof OPTIONS;

const STORE: OptionName[] = ["s3Endpoint", "s3Region", "s3TimeoutSeconds", "logLevel"];
const QUEUE: OptionName[] = ["redis", "allowVolatileRedis", "fleet"];
const MODEL: OptionName[] = ["model", "models", "precision"];
const PLAN: OptionName[] = ["out", "run", "since", ...PLAN_OPTIONS, "producerThreads"];
const METRICS: OptionName[] = ["metricsPort", "metricsHost", "metricsPush", "token"];
const CORPUS = "files, folders, patterns, s3://bucket/prefix, or - for standard input";
const DEVICE: OptionName[] = [
  "device",
  "threads",
  "maxBatchTokens",
  "maxBatchRows",
  "maxBatchSeconds",
  "maxHeldBytes",
  "cacheFolder",
  "keepStaging",
  "lockSeconds",
  "tendSeconds",
];

/** Commands are loaded when called: help and usage errors need neither a queue nor a model runtime. */
const backfill = (): Promise<typeof import("./commands/backfill.ts")> => import("./commands/backfill.ts");
const inspect = (): Promise<typeof import("./commands/inspect.ts")> => import("./commands/inspect.ts");
const COMMANDS = {
  run: async () => (await import("./commands/run.ts")).run,
  enqueue: async () => (await import("./commands/enqueue.ts")).enqueue,
  produce: async () => (await import("./commands/produce.ts")).produce,
  work: async () => (await import("./commands/work.ts")).work,
  control: async () => (await import("./commands/control.ts")).control,
  report: async () => (await import("./commands/report.ts")).report,
  status: async () => (await import("./commands/status.ts")).status,
  resume: async () => (await inspect()).resume,
  cancel: async () => (await import("./commands/cancel.ts")).cancel,
  seal: async () => (await inspect()).seal,
  compact: async () => (await import("./commands/keep.ts")).compact,
  gc: async () => (await import("./commands/keep.ts")).gc,
  verify: async () => (await inspect()).verify,
  search: async () => (await import("./commands/search.ts")).search,
  export: async () => (await import("./commands/export.ts")).exportTo,
  index: async () => (await import("./commands/load-index.ts")).index,
  eval: async () => (await import("./commands/evaluate.ts")).evaluate,
  checkModel: async () => (await import("./commands/check.ts")).check,
  benchModel: async () => (await import("./commands/bench.ts")).bench,
  pullModel: async () => (await import("./commands/models.ts")).pull,
  addBackfill: async () => (await backfill()).addBackfill,
  listBackfills: async () => (await backfill()).listBackfills,
  removeBackfill: async () => (await backfill()).removeBackfill,
  pauseBackfill: async () => (await backfill()).pauseBackfill,
  resumeBackfill: async () => (await backfill()).resumeBackfill,
  triggerBackfill: async () => (await backfill()).triggerBackfill,
  exportModel: async () => (await import("./commands/export-model.ts")).exportModel,
  listModels: async () => (await import("./commands/models.ts")).listKnown,
};

/** The action of a command, given just what its handler takes: its arguments, then its flags. */
function action(name: keyof typeof COMMANDS): (...args: unknown[]) => Promise<void> {
  return async (...args) => {
    const handler = (await COMMANDS[name]()) as (...given: unknown[]) => Promise<void> | void;
    await handler(...args.slice(0, -1));
  };
}

function options(...names: OptionName[]): Option[] {
  return names.map((name) => OPTIONS[name]());
}

type Add = (name: string, description: string, ...flags: Option[]) => Command;

function runArgument(required: boolean): Argument {
  return new Argument(required ? "<run>" : "[run]", "a run's id").argParser(parseRunId);
}

function outArgument(): Argument {
  return new Argument("<out>", "the store: file:///folder, s3://bucket/prefix or a path");
}

/** @returns The whole program, not yet run. */
export function buildProgram(): Command {
  const program = new Command("embedfleet")
    .description("Turns a large corpus into embeddings, in batch, without losing or doubling a row.")
    .helpCommand(false)
    .configureOutput({ outputError: (message, write) => write(visibleLines(message)) })
    .exitOverride();
  const add = adderTo(program);
  addWork(add);
  addRuns(add);
  addResults(add);
  addModels(adderTo(program.command("models").description("models that can be used")));
  addBackfills(adderTo(program.command("backfill").description("nightly runs of what is new or changed")));
  return program;
}

function adderTo(parent: Command): Add {
  return (name, description, ...flags) => {
    const command = parent.command(name).description(description);
    for (const flag of flags) command.addOption(flag);
    return command;
  };
}

function addModels(add: Add): void {
  add(
    "bench",
    "how fast a model is here, by batch, row length, precision and device",
    ...options("models", "precision", "heads", "device", "threads", "maxBatchTokens", "keepFigures", "json"),
  )
    .argument("<model>", "a model's name or the path of its folder")
    .action(action("benchModel"));
  add(
    "check",
    "hold a model to PyTorch's answers, batched and alone, at every precision it has",
    ...options("models", "precision", "reference", "device", "threads", "json"),
  )
    .argument("<model>", "a model's name or the path of its folder")
    .action(action("checkModel"));
  add("list", "the models that are known by name", ...options("models", "json")).action(action("listModels"));
  add(
    "pull",
    "fetch a model's files, going on where an earlier pull stopped; HF_TOKEN is used where it is set",
    ...options("models", "hub", "from", ...STORE, "json"),
  )
    .argument("<name>", "a model of models list")
    .action(action("pullModel"));
  add(
    "export",
    "write the graphs of a PyTorch model in several precisions; needs Python",
    ...options("into", "precisions", "keepFloat", "tensorrt"),
  )
    .argument("<source>", "a folder in the hub's layout, or generated:{mini,tiny,large} for made-up weights")
    .action(action("exportModel"));
}

/** What makes embeddings, and what watches over it. */
function addWork(add: Add): void {
  add(
    "run",
    "enqueue, embed and seal a corpus on this machine",
    ...options(...PLAN, ...QUEUE, "workers", ...DEVICE, ...METRICS, ...STORE, "unsafeStore", "json"),
  )
    .argument("<corpus...>", CORPUS)
    .action(action("run"));
  add(
    "enqueue",
    "plan a corpus and queue it; workers elsewhere do the rest",
    ...options(...PLAN, "distributed", "lockSeconds", ...QUEUE, ...METRICS, ...STORE, "unsafeStore", "json"),
  )
    .argument("<corpus...>", CORPUS)
    .action(action("enqueue"));
  add(
    "produce",
    "help enqueue --distributed: read and tokenise parts of a run's corpus until it is planned",
    ...options(
      "out",
      "model",
      "models",
      "inputsBelow",
      "producerThreads",
      "lockSeconds",
      ...QUEUE,
      ...METRICS,
      ...STORE,
      "unsafeStore",
      "json",
    ),
  )
    .addArgument(runArgument(true))
    .action(action("produce"));
  add(
    "work",
    "take jobs from the queue until stopped",
    ...options(
      "out",
      ...MODEL,
      ...QUEUE,
      "workers",
      ...DEVICE,
      "exitWhenDone",
      ...METRICS,
      ...STORE,
      "unsafeStore",
      "json",
    ),
  ).action(action("work"));
  add(
    "control",
    "reconcile a fleet's runs and show them on a dashboard, until stopped",
    ...options(
      "out",
      ...QUEUE,
      "host",
      "port",
      "token",
      "keepStaging",
      "tendSeconds",
      "models",
      "scheduleInputs",
      "webhookHosts",
      ...STORE,
      "unsafeStore",
    ),
  ).action(action("control"));
}

/** What looks at one run, or steers it. */
function addRuns(add: Add): void {
  add(
    "status",
    "how far a run is; without one, the runs of a store",
    ...options("out", ...QUEUE, "watch", ...STORE, "json"),
  )
    .addArgument(runArgument(false))
    .action(action("status"));
  add("resume", "queue again whatever is planned and not there", ...options("out", ...QUEUE, ...STORE, "json"))
    .addArgument(runArgument(true))
    .action(action("resume"));
  add("cancel", "stop a run for good; what it has is kept", ...options("out", ...QUEUE, ...STORE, "json"))
    .addArgument(runArgument(true))
    .action(action("cancel"));
  add(
    "seal",
    "prove that a run is whole and publish its manifest",
    ...options("out", "accept", "keepStaging", ...STORE, "json"),
  )
    .addArgument(runArgument(true))
    .action(action("seal"));
  add(
    "compact",
    "write a delta and what it builds on as a full run, <run>-full",
    ...options("out", ...STORE, "unsafeStore", "json"),
  )
    .addArgument(runArgument(true))
    .action(action("compact"));
  add(
    "gc",
    "the runs that no other needs: superseded or abandoned ones, never the latest",
    ...options("out", "delete", "abandonedDays", ...STORE, "json"),
  ).action(action("gc"));
}

/** What reads results back. */
function addResults(add: Add): void {
  add("report", "one HTML file with a run's figures and pictures", ...options("out", "file", ...STORE, "json"))
    .addArgument(runArgument(true))
    .action(action("report"));
  add("verify", "read a run back and count what is wrong with it", ...options(...STORE, "json"))
    .addArgument(outArgument())
    .addArgument(runArgument(false))
    .action(action("verify"));
  add(
    "search",
    "the nearest rows to a text, by an exact scan or in an index",
    ...options(
      "ofRun",
      "index",
      "table",
      "candidates",
      "top",
      "weights",
      "withText",
      "ofModels",
      "models",
      "threads",
      ...STORE,
      "json",
    ),
  )
    .addArgument(outArgument())
    .argument("<query>", "what to look for")
    .action(action("search"));
  add(
    "index",
    "a run, and later what deltas change, into an index",
    ...options("toIndex", "table", "indexHeads", "fullText", ...STORE, "json"),
  )
    .addArgument(outArgument())
    .addArgument(runArgument(false))
    .action(action("index"));
  add("export", "a run as files that another system loads", ...options("to", "dest", "ofHeads", ...STORE, "json"))
    .addArgument(outArgument())
    .addArgument(runArgument(false))
    .action(action("export"));
  add(
    "eval",
    "how well runs answer questions with known answers",
    ...options("questions", "ofRuns", "at", "weights", "candidates", "ofModels", "models", "threads", ...STORE, "json"),
  )
    .addArgument(outArgument())
    .addArgument(runArgument(false))
    .action(action("eval"));
}

/** @param add To the commands of `backfill`. */
function addBackfills(add: Add): void {
  const scheduleName = (): Argument => new Argument("<name>", "the schedule's name").argParser(parseScheduleName);
  const flags = (...more: OptionName[]): Option[] => options("out", ...QUEUE, ...more, ...STORE, "json");
  const when = ["cron", "tz", "overlapPolicy", "webhook", "since"] as const;
  add("add", "embed a corpus again and again", ...flags(...when, ...PLAN_OPTIONS))
    .addArgument(scheduleName())
    .argument("<corpus...>", CORPUS)
    .action(action("addBackfill"));
  add("list", "the schedules of a store", ...flags()).action(action("listBackfills"));
  const changes = [
    ["remove", "removeBackfill", "forget a schedule; its runs stay"],
    ["pause", "pauseBackfill", "let a schedule rest"],
    ["resume", "resumeBackfill", "end a pause; what was due meanwhile is not made up for"],
    ["trigger", "triggerBackfill", "run a schedule now"],
  ] as const;
  for (const [name, handler, description] of changes)
    add(name, description, ...flags())
      .addArgument(scheduleName())
      .action(action(handler));
}
