/** `embedfleet index`: loads a run, and later its nightly deltas, into an index. */
import { indexRun } from "../../results/index-run.ts";
import { LanceIndex } from "../../results/lance-index.ts";
import { latestRun } from "../../run/list-runs.ts";
import type { IndexCommand } from "../command-settings.ts";
import { loggerOf, printJson, printLine } from "../output.ts";
import { type Closer, openStoreOf, withCloser } from "../../fleet/open-ports.ts";
import { startProgress } from "../progress-bar.ts";
import { count } from "../../core/format-figures.ts";

export async function index(out: string, run: string | undefined, settings: IndexCommand): Promise<void> {
  await withCloser(async (closer) => {
    const store = await openStoreOf({ ...settings, out }, closer);
    const { heads, fullText } = settings;
    const target = await openIndex(settings.to, settings, closer);
    const progress = startProgress("indexing", "files");
    const report = await indexRun({
      store,
      run: run ?? (await latestRun(store)),
      index: target,
      heads,
      fullText,
      log: loggerOf(settings),
      onFile: (done, planned) => progress.update(done, planned),
    }).finally(() => progress.stop());
    if (settings.json) return printJson({ ...report, index: target.url, table: settings.table });
    const { run: id, kind, upserted, removed, rows } = report;
    printLine(
      `run ${id}: ${kind}, ${count(upserted)} rows upserted, ${count(removed)} removed, ${count(rows)} in ${settings.table} of ${target.url}`,
    );
  });
}

export async function openIndex(
  url: string,
  settings: Readonly<{ table: string; s3Endpoint?: string; s3Region?: string }>,
  closer: Closer,
): Promise<LanceIndex> {
  const s3 = { endpoint: settings.s3Endpoint, region: settings.s3Region };
  return closer.add(await LanceIndex.open({ url, table: settings.table, s3 }));
}
