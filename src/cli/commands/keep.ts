/** Commands that limit the size of a store: compact and gc. */
import { findGarbage, removeGarbage } from "../../run/collect.ts";
import { compactRun } from "../../run/compact.ts";
import { readProgress } from "../../run/run-progress.ts";
import { storeNowMs } from "../../run/store-clock.ts";
import type { CompactCommand, GcCommand } from "../command-settings.ts";
import { loggerOf, printJson, printLine } from "../output.ts";
import { openStoreOf, probeStoreOf, withCloser } from "../../fleet/open-ports.ts";
import { startProgress } from "../progress-bar.ts";
import { count, megabytes } from "../../core/format-figures.ts";
import { printReport } from "../format-report.ts";

const DAY_MS = 24 * 60 * 60 * 1000;

export async function compact(run: string, settings: CompactCommand): Promise<void> {
  await withCloser(async (closer) => {
    const log = loggerOf(settings);
    const store = await openStoreOf(settings, closer, { log });
    await probeStoreOf(store, settings, log);
    const progress = startProgress("compacting", "files");
    const manifest = await compactRun({
      store,
      run,
      onFile: (done, total) => progress.update(done, total),
    }).finally(() => progress.stop());
    const report = await readProgress({ store, run: manifest.run, queue: null });
    if (settings.json) return printJson(report);
    printReport(report, store.url);
  });
}

export async function gc(settings: GcCommand): Promise<void> {
  await withCloser(async (closer) => {
    const store = await openStoreOf(settings, closer, { log: loggerOf(settings) });
    const abandonedAfterMs = settings.abandonedDays * DAY_MS;
    const found = await findGarbage({ store, nowMs: await storeNowMs(store), abandonedAfterMs });
    const garbage = settings.delete ? await removeGarbage(store, found) : found;
    if (settings.json) return printJson({ deleted: settings.delete, runs: garbage });
    if (garbage.length === 0) printLine(`no run in ${store.url} can be deleted`);
    for (const { run, why, objects, bytes } of garbage)
      printLine(`${run.padEnd(28)} ${why.padEnd(12)} ${count(objects)} objects, ${megabytes(bytes)}`);
    if (garbage.length > 0 && !settings.delete)
      printLine("nothing was deleted: add --delete once no reader needs these runs");
  });
}
