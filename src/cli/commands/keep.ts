/** Commands that keep a store small: compact and gc. */
import { findGarbage, removeGarbage } from "../../run/collect.ts";
import { compactRun } from "../../run/compact.ts";
import { readProgress } from "../../run/run-progress.ts";
import { storeNowMs } from "../../run/store-clock.ts";
import { loggerOf, printJson, printLine, type StoreFlags } from "../output.ts";
import { openStoreOf, probeStoreOf, withCloser } from "../../fleet/open-ports.ts";
import { startProgress } from "../progress-bar.ts";
import { count, megabytes } from "../../core/format-figures.ts";
import { printReport } from "../format-report.ts";

const DAY_MS = 24 * 60 * 60 * 1000;

interface KeepFlags extends StoreFlags {
  readonly json: boolean;
}

export async function compact(run: string, flags: KeepFlags & { readonly unsafeStore: boolean }): Promise<void> {
  await withCloser(async (closer) => {
    const log = loggerOf(flags);
    const store = await openStoreOf(flags, closer, { log });
    await probeStoreOf(store, flags, log);
    const progress = startProgress("compacting", "files");
    const manifest = await compactRun({
      store,
      run,
      onFile: (done, total) => progress.update(done, total),
    }).finally(() => progress.stop());
    const report = await readProgress({ store, run: manifest.run, queue: null });
    if (flags.json) return printJson(report);
    printReport(report, store.url);
  });
}

export async function gc(
  flags: KeepFlags & { readonly delete: boolean; readonly abandonedDays: number },
): Promise<void> {
  await withCloser(async (closer) => {
    const store = await openStoreOf(flags, closer, { log: loggerOf(flags) });
    const abandonedAfterMs = flags.abandonedDays * DAY_MS;
    const found = await findGarbage({ store, nowMs: await storeNowMs(store), abandonedAfterMs });
    const garbage = flags.delete ? await removeGarbage(store, found) : found;
    if (flags.json) return printJson({ deleted: flags.delete, runs: garbage });
    if (garbage.length === 0) printLine(`no run in ${store.url} may go`);
    for (const { run, why, objects, bytes } of garbage)
      printLine(`${run.padEnd(28)} ${why.padEnd(12)} ${count(objects)} objects, ${megabytes(bytes)}`);
    if (garbage.length > 0 && !flags.delete)
      printLine("nothing was deleted: add --delete when no reader needs these runs any more");
  });
}
