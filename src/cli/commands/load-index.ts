/** `embedfleet index`: a run, and then what changes every night, into an index. */
import type { Head } from "../../core/contracts.ts";
import { indexRun } from "../../results/index-run.ts";
import { LanceIndex } from "../../results/lance-index.ts";
import { latestRun } from "../../run/list-runs.ts";
import { loggerOf, printJson, printLine, type StoreFlags } from "../output.ts";
import { type Closer, openStoreOf, withCloser } from "../../fleet/open-ports.ts";
import { startProgress } from "../progress-bar.ts";
import { count } from "../../core/format-figures.ts";

export interface IndexFlags extends Omit<StoreFlags, "out"> {
  readonly to: string;
  readonly table: string;
  readonly heads: readonly Head[];
  readonly fullText: boolean;
  readonly json: boolean;
}

export async function index(out: string, run: string | undefined, flags: IndexFlags): Promise<void> {
  await withCloser(async (closer) => {
    const store = await openStoreOf({ ...flags, out }, closer);
    const { heads, fullText } = flags;
    const target = await openIndex(flags.to, flags, closer);
    const progress = startProgress("indexing", "files");
    const report = await indexRun({
      store,
      run: run ?? (await latestRun(store)),
      index: target,
      heads,
      fullText,
      log: loggerOf(flags),
      onFile: (done, planned) => progress.update(done, planned),
    }).finally(() => progress.stop());
    if (flags.json) return printJson({ ...report, index: target.url, table: flags.table });
    const { run: id, kind, upserted, removed, rows } = report;
    printLine(
      `run ${id}: ${kind}, ${count(upserted)} rows put in, ${count(removed)} taken out, ${count(rows)} in ${flags.table} of ${target.url}`,
    );
  });
}

export async function openIndex(
  url: string,
  flags: Readonly<{ table: string; s3Endpoint?: string; s3Region?: string }>,
  closer: Closer,
): Promise<LanceIndex> {
  const s3 = { endpoint: flags.s3Endpoint, region: flags.s3Region };
  return closer.add(await LanceIndex.open({ url, table: flags.table, s3 }));
}
