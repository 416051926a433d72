/** `embedfleet run`: enqueue, workers and seal on this machine. */
import { setTimeout as sleep } from "node:timers/promises";
import { type PrivateQueueServer, startPrivateQueueServer } from "../../adapters/open-queue.ts";
import { FleetError } from "../../core/errors.ts";
import { sayFailures } from "../../core/failures.ts";
import type { JobFailures, JobQueue, ObjectStore } from "../../core/ports.ts";
import { newRunId, plan, prepare } from "../../fleet/enqueue-corpus.ts";
import { readProgress, reportOf, type RunReport } from "../../run/run-progress.ts";
import { RunWatch } from "../../run/run-watch.ts";
import { unmarkActive } from "../../run/active-runs.ts";
import { heldFault } from "../../run/hold.ts";
import { sealRun } from "../../run/seal.ts";
import type { RunCommand } from "../command-settings.ts";
import { loggerOf, printJson } from "../output.ts";
import { engineOf, openQueuesOn, queueServerOf, withCloser } from "../../fleet/open-ports.ts";
import { goingOn, interruptionOf, untilAborted } from "../interrupt.ts";
import { type Progress, startProgress } from "../progress-bar.ts";
import { printReport } from "../format-report.ts";
import { placesOf, superviseWorkers } from "../worker-processes.ts";
import { withPlanningBar } from "./enqueue.ts";

const POLL_INTERVAL_MS = 500;

export async function run(inputs: readonly string[], given: RunCommand): Promise<void> {
  await withCloser(async (closer) => {
    const log = loggerOf(given);
    // Checked here because each worker would refuse it only after the corpus was read.
    const places = placesOf(given, engineOf(given));
    const { store, model, chunker, corpus, observe } = await prepare(
      inputs,
      { ...given, distributed: false },
      closer,
      log,
    );
    const ownRedis = given.redis === undefined ? closer.add(await startPrivateQueueServer()) : null;
    const redis = given.redis ?? ownRedis!.url;
    const runId = given.run ?? newRunId();
    // No other process can reach a private queue, so no other fleet's workers may take the run for theirs.
    const fleet = given.redis === undefined ? `private-${runId}` : given.fleet;
    const allowVolatileRedis = given.redis === undefined || given.allowVolatileRedis;
    const settings = { ...given, distributed: false, redis, fleet, run: runId, allowVolatileRedis };
    const server = queueServerOf(settings, log);
    const warnings = await server.check({ allowVolatile: allowVolatileRedis });
    // A private server persists nothing by design.
    if (ownRedis === null) for (const warning of warnings) log.warn(warning);
    const opened = await openQueuesOn(server, { store, model: model.manifest.id }, closer);
    const { ofModel, queue } = opened;
    closer.add(server.watch(observe));
    // The workers' info lines would hide the run's own, and their warnings would repeat it.
    const logLevel = settings.logLevel === "debug" ? "debug" : "error";
    const workSettings = { ...settings, exitWhenDone: false, json: false };
    const supervisor = superviseWorkers({
      settings: workSettings,
      model,
      places,
      logLevel,
      // This process serves its own metrics.
      firstMetricsPort: null,
      log,
    });
    const { signal, leave } = interruptionOf(runId);
    // Workers finish the batches they started, however long that takes; an unresponsive Redis is waited for no longer.
    closer.add({ close: () => supervisor.stop().then(leave) });
    // At once: Ctrl-C reaches the workers, too, and one that ends by it has not crashed.
    signal.addEventListener("abort", () => void supervisor.stop(), { once: true });
    supervisor.start();
    const failed = supervisor.ended().then(() => new Promise<never>(() => {}));
    const over = Promise.race([
      failed,
      untilAborted(signal),
      ...(ownRedis === null ? [] : [untilLost(ownRedis, runId)]),
    ]);
    const what = { inputs, settings, corpus, store, server, ...opened, model, chunker, observe, closer, log };
    // What only an opened model shows is refused before the corpus is read.
    await Promise.race([supervisor.ready(), over]);
    const planned = withPlanningBar((onDocuments) => plan({ ...what, onDocuments, signal }));
    // Planning rejects as well when the command is asked to stop; the race reports only the first rejection.
    planned.catch(() => {});
    const { run: id } = await Promise.race([planned, over]);
    const progress = startProgress("embedding", "rows");
    // An unresponsive queue delays the status, and must not delay the bar.
    await Promise.race([untilComplete({ store, queue, run: id, progress }), over]).finally(() => progress.stop());
    await supervisor.stop();
    const outcome = await sealRun({ store, run: id, keepStaging: settings.keepStaging });
    if (outcome.kind === "held") throw await heldFault(store, outcome);
    if (outcome.kind === "open")
      throw new FleetError("run_incomplete", `run ${id} cannot be sealed: ${outcome.reason}`);
    await unmarkActive(store, { fleet: ofModel.name, run: id });
    const report = { ...(await readProgress({ store, run: id, queue: null })), sources: corpus.sources };
    if (settings.json) printJson(report);
    else printReport(report, store.url);
  });
}

async function untilLost(redis: PrivateQueueServer, run: string): Promise<never> {
  const how = await redis.lost;
  throw new FleetError("redis_unavailable", `the private redis-server is gone: ${how}`, { cure: goingOn(run) });
}

type WatchedQueue = Pick<JobQueue, "counts"> & JobFailures;

/** Waits until every planned shard is done. @throws FleetError `run_incomplete` if the remaining shards have failed. */
export async function untilComplete(
  params: Readonly<{ store: ObjectStore; queue: WatchedQueue; run: string; progress: Progress }>,
): Promise<RunReport> {
  const { store, queue, run, progress } = params;
  const watch = new RunWatch({ store, run });
  for (;;) {
    const counts = await queue.counts();
    const report = reportOf(await watch.look(), counts);
    progress.update(report.rows, report.plannedRows);
    if (report.state === "complete" || report.state === "held" || report.state === "sealed") return report;
    await assertCanFinish(queue, report);
    await sleep(POLL_INTERVAL_MS);
  }
}

/** Throws when all remaining shards have failed, since waiting would never end; jobs of other runs are ignored. */
async function assertCanFinish(queue: WatchedQueue, report: RunReport): Promise<void> {
  const missing = report.plannedShards - report.shards;
  if (report.state !== "embedding" || report.queue === null || report.queue.failed < missing) return;
  const failures = await queue.failures({ run: report.run, limit: missing });
  if (failures.length < missing) return;
  throw new FleetError("run_incomplete", `run ${report.run} has failed shards: ${sayFailures(failures)}`, {
    cure: `fix the cause, then: embedfleet resume ${report.run}`,
  });
}
