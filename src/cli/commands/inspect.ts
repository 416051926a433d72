/** Commands that mend a run or prove it: resume, seal, verify. */
import { queueName } from "../../adapters/redis/queue-options.ts";
import { FleetError } from "../../core/errors.ts";
import { latestRun } from "../../run/list-runs.ts";
import { readProgress } from "../../run/run-progress.ts";
import { readClosed, readRun } from "../../run/read-plan.ts";
import { resumeRun } from "../../run/reconcile.ts";
import { acceptRun, heldFault } from "../../run/hold.ts";
import { sealRun } from "../../run/seal.ts";
import { verifyRun } from "../../run/verify.ts";
import { loggerOf, printJson, printLine, type StoreFlags } from "../output.ts";
import { openQueueOf, openStoreOf, watchRedisOf, withCloser } from "../../fleet/open-ports.ts";
import { startProgress } from "../progress-bar.ts";
import { printReport } from "../format-report.ts";

interface ReportFlags extends StoreFlags {
  readonly json: boolean;
}

export interface ResumeFlags extends ReportFlags {
  readonly redis?: string;
  readonly allowVolatileRedis: boolean;
  readonly fleet: string;
}

export async function resume(run: string, flags: ResumeFlags): Promise<void> {
  await withCloser(async (closer) => {
    const log = loggerOf(flags);
    const store = await openStoreOf(flags, closer);
    const { options, lineage } = await readRun(store, run);
    if (lineage?.kind === "compact") {
      throw new FleetError("bad_usage", `run ${run} is a compaction, which no worker can finish`, {
        cure: `repeat: embedfleet compact ${lineage.supersedes}`,
      });
    }
    const queue = await openQueueOf(flags, options.model.id, closer, log);
    watchRedisOf(flags, closer, log);
    const resuming = resumeRun({ store, queue, fleet: queueName(flags.fleet, options.model.id), run });
    const outcome = await resuming.finally(() => {
      if (queue.repaired.length > 0)
        log.warn({ keys: queue.repaired }, "keys of the queue were damaged and have been removed");
    });
    if (flags.json) printJson({ run, ...outcome });
    else
      printLine(
        `run ${run}: ${outcome.done} of ${outcome.planned} shards are done, ${outcome.queued} are queued again`,
      );
    if (await queue.raw.isPaused())
      log.warn("the queue is paused: no job is handed out until it is resumed with the tool that paused it");
    if ((await readClosed(store, run)) === null)
      log.warn(`the corpus has not been read to the end: repeat the enqueue command with --run ${run}`);
  });
}

export interface SealFlags extends ReportFlags {
  readonly keepStaging: boolean;
  readonly accept: boolean;
}

export async function seal(run: string, flags: SealFlags): Promise<void> {
  await withCloser(async (closer) => {
    const store = await openStoreOf(flags, closer);
    if (flags.accept) {
      const hold = await acceptRun(store, run);
      if (hold !== null) loggerOf(flags).info({ run, ...hold }, "the run is accepted");
    }
    const progress = startProgress("sealing", "files");
    const outcome = await sealRun({
      store,
      run,
      keepStaging: flags.keepStaging,
      onShard: (done, planned) => progress.update(done, planned),
    }).finally(() => progress.stop());
    if (outcome.kind === "held") throw await heldFault(store, outcome);
    if (outcome.kind === "open") {
      throw new FleetError("run_incomplete", `run ${run} cannot be sealed: ${outcome.reason}`, {
        cure: `wait for its workers, or queue what is missing: embedfleet resume ${run}`,
      });
    }
    const report = await readProgress({ store, run, queue: null });
    if (flags.json) return printJson(report);
    printReport(report, store.url);
  });
}

export async function verify(out: string, run: string | undefined, flags: Omit<ReportFlags, "out">): Promise<void> {
  await withCloser(async (closer) => {
    const store = await openStoreOf({ ...flags, out }, closer);
    const progress = startProgress("verifying", "shards");
    const report = await verifyRun({
      store,
      run: run ?? (await latestRun(store)),
      onShard: (done, planned) => progress.update(done, planned),
    }).finally(() => progress.stop());
    if (flags.json) printJson(report);
    else {
      const { findings, strays, ...figures } = report;
      for (const [name, value] of Object.entries(figures)) printLine(`${name.padEnd(10)} ${value}`);
      for (const stray of strays)
        printLine(`note: ${stray} is no part of the run, but is read with data/*.arrow: remove it`);
      for (const finding of findings) printLine(`! ${finding}`);
    }
    if (!report.ok)
      throw new FleetError(
        "run_incomplete",
        `run ${report.run} is not sound: ${report.missing} of its rows are missing; the first findings are listed above`,
        {
          cure: `do what the findings say; delete the files found damaged, if any, and queue what is missing: embedfleet resume ${report.run}`,
        },
      );
  });
}
