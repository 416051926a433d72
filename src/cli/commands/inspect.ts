/** Commands that repair or verify a run: resume, seal, verify. */
import { FleetError } from "../../core/errors.ts";
import { latestRun } from "../../run/list-runs.ts";
import { readProgress } from "../../run/run-progress.ts";
import { readClosed, readRun } from "../../run/read-plan.ts";
import { resumeRun } from "../../run/reconcile.ts";
import { acceptRun, heldFault } from "../../run/hold.ts";
import { sealRun } from "../../run/seal.ts";
import { verifyRun } from "../../run/verify.ts";
import type { SealCommand, SteerCommand, VerifyCommand } from "../command-settings.ts";
import { loggerOf, printJson, printLine } from "../output.ts";
import { openQueueOf, openStoreOf, withCloser } from "../../fleet/open-ports.ts";
import { startProgress } from "../progress-bar.ts";
import { printReport } from "../format-report.ts";

export async function resume(run: string, settings: SteerCommand): Promise<void> {
  await withCloser(async (closer) => {
    const log = loggerOf(settings);
    const store = await openStoreOf(settings, closer);
    const { options, lineage } = await readRun(store, run);
    if (lineage?.kind === "compact") {
      throw new FleetError("bad_usage", `run ${run} is a compaction, which no worker can finish`, {
        cure: `repeat: embedfleet compact ${lineage.supersedes}`,
      });
    }
    const { server, ofModel, queue } = await openQueueOf(settings, { store, model: options.model.id }, closer, log);
    closer.add(server.watch());
    const resuming = resumeRun({ store, queue, fleet: ofModel.name, run });
    const outcome = await resuming.finally(() => {
      if (queue.repaired.length > 0)
        log.warn({ keys: queue.repaired }, "keys of the queue were damaged and have been removed");
    });
    if (settings.json) printJson({ run, ...outcome });
    else
      printLine(
        `run ${run}: ${outcome.done} of ${outcome.planned} shards are done, ${outcome.queued} are queued again`,
      );
    if (await queue.isPaused())
      log.warn("the queue is paused: no job is processed until it is resumed with the tool that paused it");
    if ((await readClosed(store, run)) === null)
      log.warn(`the corpus has not been read to the end: repeat the enqueue command with --run ${run}`);
  });
}

export async function seal(run: string, settings: SealCommand): Promise<void> {
  await withCloser(async (closer) => {
    const store = await openStoreOf(settings, closer);
    if (settings.accept) {
      const hold = await acceptRun(store, run);
      if (hold !== null) loggerOf(settings).info({ run, ...hold }, "the run is accepted");
    }
    const progress = startProgress("sealing", "files");
    const outcome = await sealRun({
      store,
      run,
      keepStaging: settings.keepStaging,
      onShard: (done, planned) => progress.update(done, planned),
    }).finally(() => progress.stop());
    if (outcome.kind === "held") throw await heldFault(store, outcome);
    if (outcome.kind === "open") {
      throw new FleetError("run_incomplete", `run ${run} cannot be sealed: ${outcome.reason}`, {
        cure: `wait for its workers, or queue the missing shards: embedfleet resume ${run}`,
      });
    }
    const report = await readProgress({ store, run, queue: null });
    if (settings.json) return printJson(report);
    printReport(report, store.url);
  });
}

export async function verify(out: string, run: string | undefined, settings: VerifyCommand): Promise<void> {
  await withCloser(async (closer) => {
    const store = await openStoreOf({ ...settings, out }, closer);
    const progress = startProgress("verifying", "shards");
    const report = await verifyRun({
      store,
      run: run ?? (await latestRun(store)),
      onShard: (done, planned) => progress.update(done, planned),
    }).finally(() => progress.stop());
    if (settings.json) printJson(report);
    else {
      const { findings, strays, engines, ...figures } = report;
      for (const [name, value] of Object.entries(figures)) printLine(`${name.padEnd(10)} ${value}`);
      if (engines.length > 0) printLine(`${"engines".padEnd(10)} ${engines.join(", ")}`);
      if (engines.length > 1)
        printLine("note: workers ran several versions of the engine, so their vectors may differ by rounding");
      for (const stray of strays)
        printLine(`note: ${stray} is not part of the run but matches data/*.arrow: remove it`);
      for (const finding of findings) printLine(`! ${finding}`);
    }
    if (!report.ok)
      throw new FleetError(
        "run_incomplete",
        `run ${report.run} is not sound: ${report.missing} of its rows are missing; the first findings are listed above`,
        {
          cure: `follow the findings; delete the files found damaged, if any, and queue the missing shards: embedfleet resume ${report.run}`,
        },
      );
  });
}
