/** `embedfleet run`: enqueue, workers and seal on this machine. */
import type { Logger } from "pino";
import type { BullQueue } from "../../adapters/redis/bull-queue.ts";
import { PrivateRedis } from "../../adapters/redis/private-redis.ts";
import { queueName } from "../../adapters/redis/queue-options.ts";
import { FleetError } from "../../core/errors.ts";
import type { ObjectStore } from "../../core/ports.ts";
import { newRunId, plan, prepare } from "../../fleet/enqueue-corpus.ts";
import { readProgress, reportOf, type RunReport } from "../../run/run-progress.ts";
import { RunWatch } from "../../run/run-watch.ts";
import { unmarkActive } from "../../run/active-runs.ts";
import { heldFault } from "../../run/hold.ts";
import { sealRun } from "../../run/seal.ts";
import { sayFailures } from "../../run/unfinished.ts";
import { loggerOf, printJson } from "../output.ts";
import { openQueueOf, watchRedisOf, withCloser } from "../../fleet/open-ports.ts";
import { goingOn, interruptionOf, untilAborted } from "../interrupt.ts";
import { type Progress, startProgress } from "../progress-bar.ts";
import { printReport } from "../format-report.ts";
import { placesOf, superviseWorkers, type WorkFlags } from "../worker-processes.ts";
import { type EnqueueFlags, withPlanningBar } from "./enqueue.ts";

const POLL_INTERVAL_MS = 500;

export interface RunFlags extends EnqueueFlags, Omit<WorkFlags, "exitWhenDone"> {}

export async function run(inputs: readonly string[], given: RunFlags): Promise<void> {
  await withCloser(async (closer) => {
    const log = loggerOf(given);
    // Its workers would each refuse it, after the corpus was read.
    const places = placesOf(given);
    const { store, model, chunker, corpus, observe } = await prepare(inputs, given, closer, log);
    const ownRedis = given.redis === undefined ? closer.add(await PrivateRedis.start()) : null;
    const redis = given.redis ?? ownRedis!.url;
    const runId = given.run ?? newRunId();
    // Nobody else can reach a private queue, so nobody else's workers may think the run theirs.
    const fleet = given.redis === undefined ? `private-${runId}` : given.fleet;
    // That a private server persists nothing is by design, so only warnings about a given one are said.
    const allowVolatileRedis = given.redis === undefined || given.allowVolatileRedis;
    const flags: RunFlags = { ...given, redis, fleet, run: runId, allowVolatileRedis };
    const queue = await openQueueOf(flags, model.manifest.id, closer, given.redis === undefined ? quiet(log) : log);
    watchRedisOf(flags, closer, log, observe);
    // Their ordinary lines would drown the run's own, and their warnings would repeat it.
    const logLevel = flags.logLevel === "debug" ? "debug" : "error";
    const workFlags = { ...flags, exitWhenDone: false, json: false };
    const supervisor = superviseWorkers({ flags: workFlags, model, places, logLevel, firstMetricsPort: null, log });
    closer.add({ close: () => supervisor.stop() });
    supervisor.start();
    const signal = interruptionOf(runId);
    const failed = supervisor.ended().then(() => new Promise<never>(() => {}));
    const over = Promise.race([
      failed,
      untilAborted(signal),
      ...(ownRedis === null ? [] : [untilLost(ownRedis, runId)]),
    ]);
    const what = { inputs, settings: flags, corpus, store, queue, model, chunker, observe, closer, log };
    const planned = withPlanningBar((onDocuments) => plan({ ...what, onDocuments, signal }));
    // Told to go it fails as well, and the race has its loser heard.
    planned.catch(() => {});
    const { run: id } = await Promise.race([planned, over]);
    const progress = startProgress("embedding", "rows");
    // A queue that does not answer holds the look at it, and must not hold the bar.
    await Promise.race([untilComplete({ store, queue, run: id, progress }), over]).finally(() => progress.stop());
    await supervisor.stop();
    const outcome = await sealRun({ store, run: id, keepStaging: flags.keepStaging });
    if (outcome.kind === "held") throw await heldFault(store, outcome);
    if (outcome.kind === "open")
      throw new FleetError("run_incomplete", `run ${id} cannot be sealed: ${outcome.reason}`);
    await unmarkActive(store, { fleet: queueName(fleet, model.manifest.id), run: id });
    const report = await readProgress({ store, run: id, queue: null });
    if (flags.json) printJson(report);
    else printReport(report, store.url);
  });
}

function quiet(log: Logger): Logger {
  return log.child({}, { level: "error" });
}

async function untilLost(redis: PrivateRedis, run: string): Promise<never> {
  const how = await redis.lost;
  throw new FleetError("redis_unavailable", `the private redis-server is gone: ${how}`, { cure: goingOn(run) });
}

/** @throws FleetError `run_incomplete` when what is left has failed. */
export async function untilComplete(
  params: Readonly<{ store: ObjectStore; queue: BullQueue; run: string; progress: Progress }>,
): Promise<RunReport> {
  const { store, queue, run, progress } = params;
  const watch = new RunWatch({ store, run });
  for (;;) {
    const counts = await queue.counts();
    const report = reportOf(await watch.look(), counts);
    progress.update(report.rows, report.plannedRows);
    if (report.state === "complete" || report.state === "held" || report.state === "sealed") return report;
    await assertCanFinish(queue, report);
    await new Promise((resolve) => setTimeout(resolve, POLL_INTERVAL_MS));
  }
}

/** When all that is left has failed, waiting longer would be waiting for ever; jobs of other runs change nothing. */
async function assertCanFinish(queue: BullQueue, report: RunReport): Promise<void> {
  const missing = report.plannedShards - report.shards;
  if (report.state !== "embedding" || report.queue === null || report.queue.failed < missing) return;
  const failures = await queue.failures({ run: report.run, limit: missing });
  if (failures.length < missing) return;
  throw new FleetError("run_incomplete", `run ${report.run} has shards that failed: ${sayFailures(failures)}`, {
    cure: `fix the cause, then: embedfleet resume ${report.run}`,
  });
}
