/** Commands that look at a store, or mend a run: status, resume, seal, verify. */
import { BullQueue } from "../../adapters/redis/bull-queue.ts";
import { queueName } from "../../adapters/redis/queue-options.ts";
import { FleetError } from "../../core/errors.ts";
import type { ObjectStore, QueueCounts } from "../../core/ports.ts";
import { latestRun, listRuns } from "../../run/list-runs.ts";
import { readProgress, type RunReport } from "../../run/progress.ts";
import { readRun } from "../../run/read-plan.ts";
import { resumeRun } from "../../run/reconcile.ts";
import { sealRun } from "../../run/seal.ts";
import { verifyRun } from "../../run/verify.ts";
import { type Closer, loggerOf, openQueueOf, openStoreOf, printJson, type StoreFlags, withCloser } from "../context.ts";
import { startProgress } from "../progress.ts";
import { count, printReport } from "../report.ts";

const REFRESH_INTERVAL_MS = 1000;

interface ReportFlags extends StoreFlags {
  readonly json: boolean;
}

export interface StatusFlags extends ReportFlags {
  readonly redis?: string;
  readonly fleet: string;
}

export async function status(run: string | undefined, flags: StatusFlags): Promise<void> {
  await withCloser(async (closer) => {
    const store = await openStoreOf(flags, closer);
    if (run === undefined) return printRuns(store, flags.json);
    const queue = await queueOfRun(store, run, flags, closer);
    const read = async (): Promise<RunReport> => readProgress({ store, run, queue: await queue() });
    if (flags.json) return printJson(await read());
    if (process.stdout.isTTY) await watch(read);
    printReport(await read(), store.url);
  });
}

/** Redraws a bar until the run is sealed or the reader has seen enough. */
async function watch(read: () => Promise<RunReport>): Promise<void> {
  const progress = startProgress("embedding", "rows");
  const interrupted = new AbortController();
  process.once("SIGINT", () => interrupted.abort());
  for (let report = await read(); !interrupted.signal.aborted && report.state !== "sealed"; report = await read()) {
    progress.update(report.rows, report.plannedRows);
    await new Promise((resolve) => setTimeout(resolve, REFRESH_INTERVAL_MS));
  }
  progress.stop();
}

async function queueOfRun(
  store: ObjectStore,
  run: string,
  flags: StatusFlags,
  closer: Closer,
): Promise<() => Promise<QueueCounts | null>> {
  if (flags.redis === undefined) return async () => null;
  const { options } = await readRun(store, run);
  const queue = closer.add(new BullQueue({ redisUrl: flags.redis, name: queueName(flags.fleet, options.model.id) }));
  return () => queue.counts();
}

async function printRuns(store: ObjectStore, json: boolean): Promise<void> {
  const reports: RunReport[] = [];
  for (const run of await listRuns(store)) reports.push(await readProgress({ store, run, queue: null }));
  if (json) return printJson(reports);
  if (reports.length === 0) console.log(`no runs in ${store.url}`);
  for (const { run, state, rows, plannedRows, rejects } of reports) {
    console.log(
      `${run.padEnd(28)} ${state.padEnd(10)} ${count(rows)} of ${count(plannedRows)} rows, ${count(rejects)} rejected`,
    );
  }
}

export interface ResumeFlags extends ReportFlags {
  readonly redis?: string;
  readonly fleet: string;
}

export async function resume(run: string, flags: ResumeFlags): Promise<void> {
  await withCloser(async (closer) => {
    const log = loggerOf(flags);
    const store = await openStoreOf(flags, closer);
    const { options } = await readRun(store, run);
    const queue = await openQueueOf(flags, options.model.id, closer, log);
    const outcome = await resumeRun({ store, queue, fleet: queueName(flags.fleet, options.model.id), run });
    if (flags.json) return printJson({ run, ...outcome });
    console.log(
      `run ${run}: ${outcome.done} of ${outcome.planned} shards are done, ${outcome.queued} are queued again`,
    );
  });
}

export async function seal(run: string, flags: ReportFlags & { readonly keepStaging: boolean }): Promise<void> {
  await withCloser(async (closer) => {
    const store = await openStoreOf(flags, closer);
    const progress = startProgress("sealing", "files");
    const outcome = await sealRun({
      store,
      run,
      keepStaging: flags.keepStaging,
      onShard: (done, planned) => progress.update(done, planned),
    }).finally(() => progress.stop());
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
      const { findings, ...figures } = report;
      for (const [name, value] of Object.entries(figures)) console.log(`${name.padEnd(10)} ${value}`);
      for (const finding of findings) console.log(`! ${finding}`);
    }
    if (!report.ok)
      throw new FleetError(
        "run_incomplete",
        `run ${report.run} is not sound: ${report.missing} of its rows are missing; the first findings are listed above`,
        {
          cure: `delete the files found damaged, if any, and queue what is missing: embedfleet resume ${report.run}`,
        },
      );
  });
}
