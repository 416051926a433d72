/** The command table. `commands/` has the commands, and `report-failure.ts` how they end. */
import type { Command } from "commander";
import type { z } from "zod";
import { visibleLines } from "../core/visible.ts";
import { programVersion } from "../fleet/program-version.ts";
import * as settings from "./command-settings.ts";
import * as models from "./model-settings.ts";
import { FleetCommand } from "./fleet-command.ts";
import { optionsOf, outArgument, runArgument, scheduleNameArgument } from "./options.ts";

const CORPUS = "files, folders, patterns, s3://bucket/prefix, or - for standard input";
const MODEL = "name of a model, or path of its folder";

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
  doctor: async () => (await import("./commands/doctor.ts")).doctor,
  gc: async () => (await import("./commands/keep.ts")).gc,
  verify: async () => (await inspect()).verify,
  search: async () => (await import("./commands/search.ts")).search,
  export: async () => (await import("./commands/export.ts")).exportTo,
  index: async () => (await import("./commands/load-index.ts")).index,
  eval: async () => (await import("./commands/evaluate.ts")).evaluate,
  checkModel: async () => (await import("./commands/check.ts")).check,
  benchModel: async () => (await import("./commands/bench.ts")).bench,
  addModel: async () => (await import("./commands/models.ts")).add,
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

/** The action of a command, which passes its handler only the arguments and the settings. */
function action(name: keyof typeof COMMANDS): (...args: unknown[]) => Promise<void> {
  return async (...args) => {
    const handler = (await COMMANDS[name]()) as (...given: unknown[]) => Promise<void> | void;
    await handler(...args.slice(0, -1));
  };
}

type Add = (name: string, description: string, settings: z.ZodObject) => Command;

/**
 * @param env Environment that the options' variables are read from.
 * @returns The whole program, not yet run.
 */
export function buildProgram(env: NodeJS.ProcessEnv = process.env): Command {
  const program = new FleetCommand("embedfleet", env)
    .description("Embed a large corpus in batch: every row exactly once.")
    .version(programVersion(), "--version", "print the version")
    .helpCommand(false)
    .configureOutput({ outputError: (message, write) => write(visibleLines(message)) })
    .exitOverride();
  const adderTo =
    (parent: Command): Add =>
    (name, description, schema) => {
      const command = parent.command(name).description(description);
      for (const option of optionsOf(schema, env)) command.addOption(option);
      return command;
    };
  const add = adderTo(program);
  addWork(add);
  addRuns(add);
  addResults(add);
  addModels(adderTo(program.command("models").description("list, fetch, check, measure and export models")));
  addBackfills(adderTo(program.command("backfill").description("schedule nightly runs of what is new or changed")));
  return program;
}

function addModels(add: Add): void {
  add(
    "bench",
    "measure a model's speed on this machine by batch, row length, precision and device",
    models.benchCommand,
  )
    .argument("<model>", MODEL)
    .action(action("benchModel"));
  add(
    "check",
    "compare a model's vectors with PyTorch's, in batches and row by row, at every precision that it has",
    models.checkCommand,
  )
    .argument("<model>", MODEL)
    .action(action("checkModel"));
  add("list", "list the models that are known by name", models.listModelsCommand).action(action("listModels"));
  add(
    "pull",
    "download a model's files, or resume an interrupted download; uses HF_TOKEN if it is set",
    models.pullCommand,
  )
    .argument("<name>", "name of a model, from `models list`, or OWNER/NAME[@revision] of any hub repository")
    .action(action("pullModel"));
  add(
    "add",
    "write the manifest.json that a folder in the hub's layout describes, for you to edit",
    models.addModelCommand,
  )
    .argument("<folder>", "folder in the hub's layout, with its ONNX graph")
    .action(action("addModel"));
  add("export", "export a PyTorch model as ONNX graphs in several precisions; needs Python", models.exportModelCommand)
    .argument("<source>", "folder in the hub's layout, or generated:{mini,tiny,large} for random weights")
    .action(action("exportModel"));
}

/** Adds the commands that make embeddings, and those that observe and reconcile them. */
function addWork(add: Add): void {
  add("run", "plan, embed and seal a corpus on this machine", settings.runCommand)
    .argument("<corpus...>", CORPUS)
    .action(action("run"));
  add("enqueue", "plan a corpus and queue its shards for workers on any machine", settings.enqueueCommand)
    .argument("<corpus...>", CORPUS)
    .action(action("enqueue"));
  add(
    "produce",
    "help `enqueue --distributed`: read and tokenise parts of a run's corpus until the run is planned",
    settings.produceCommand,
  )
    .addArgument(runArgument(true))
    .action(action("produce"));
  add("work", "run workers that take jobs from the queue until they are stopped", settings.workCommand).action(
    action("work"),
  );
  add(
    "control",
    "reconcile a fleet's runs and show them on a dashboard, until it is stopped",
    settings.controlCommand,
  ).action(action("control"));
  add(
    "doctor",
    "show what this installation can run on; install the libraries for GPUs",
    settings.doctorCommand,
  ).action(action("doctor"));
}

/** Adds the commands that show or change one run. */
function addRuns(add: Add): void {
  add("status", "show the progress of a run, or list the runs of a store", settings.statusCommand)
    .addArgument(runArgument(false))
    .action(action("status"));
  add("resume", "queue again the planned shards that have no results", settings.steerCommand)
    .addArgument(runArgument(true))
    .action(action("resume"));
  add("cancel", "cancel a run for good; its results so far are kept", settings.cancelCommand)
    .addArgument(runArgument(true))
    .action(action("cancel"));
  add("seal", "check that a run is complete, and publish its manifest", settings.sealCommand)
    .addArgument(runArgument(true))
    .action(action("seal"));
  add("compact", "merge a delta and the runs it builds on into a full run, <run>-full", settings.compactCommand)
    .addArgument(runArgument(true))
    .action(action("compact"));
  add("gc", "list or delete superseded and abandoned runs (never the latest)", settings.gcCommand).action(action("gc"));
}

/** Adds the commands that read results. */
function addResults(add: Add): void {
  add("report", "write an HTML report of a run, with its figures and charts", settings.reportCommand)
    .addArgument(runArgument(true))
    .action(action("report"));
  add("verify", "read a run back and report every defect", settings.verifyCommand)
    .addArgument(outArgument())
    .addArgument(runArgument(false))
    .action(action("verify"));
  add("search", "find the rows nearest to a text, by an exact scan or in an index", settings.searchCommand)
    .addArgument(outArgument())
    .argument("<query>", "text to search for")
    .action(action("search"));
  add("index", "load a run, and later its deltas, into a vector index", settings.indexCommand)
    .addArgument(outArgument())
    .addArgument(runArgument(false))
    .action(action("index"));
  add("export", "export a run as files that another system can load", settings.exportCommand)
    .addArgument(outArgument())
    .addArgument(runArgument(false))
    .action(action("export"));
  add("eval", "measure how well runs answer questions whose answers are known", settings.evalCommand)
    .addArgument(outArgument())
    .addArgument(runArgument(false))
    .action(action("eval"));
}

/** @param add Adds a command to `backfill`. */
function addBackfills(add: Add): void {
  add("add", "schedule a corpus to be embedded regularly", settings.addBackfillCommand)
    .addArgument(scheduleNameArgument())
    .argument("<corpus...>", CORPUS)
    .action(action("addBackfill"));
  add("list", "list the schedules of a store", settings.schedulesCommand).action(action("listBackfills"));
  const changes = [
    ["remove", "removeBackfill", "delete a schedule; its runs stay"],
    ["pause", "pauseBackfill", "pause a schedule"],
    ["resume", "resumeBackfill", "resume a paused schedule; runs that were due meanwhile are not made up for"],
    ["trigger", "triggerBackfill", "start a schedule's run now"],
  ] as const;
  for (const [name, handler, description] of changes)
    add(name, description, settings.schedulesCommand).addArgument(scheduleNameArgument()).action(action(handler));
}
