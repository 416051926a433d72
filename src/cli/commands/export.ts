/** `embedfleet export`: a run as files that another system loads. */
import { openStore } from "../../adapters/open-store.ts";
import type { Head } from "../../core/contracts.ts";
import { exportRun } from "../../results/export/export-run.ts";
import type { ExportFormatName } from "../../results/export/format.ts";
import { latestRun } from "../../run/list-runs.ts";
import { printJson, printLine, type StoreFlags } from "../output.ts";
import { openStoreOf, withCloser } from "../../fleet/open-ports.ts";
import { startProgress } from "../progress-bar.ts";
import { count, megabytes } from "../../core/format-figures.ts";

export interface ExportFlags extends Omit<StoreFlags, "out"> {
  readonly to: ExportFormatName;
  readonly dest: string;
  readonly heads?: readonly Head[];
  readonly json: boolean;
}

export async function exportTo(out: string, run: string | undefined, flags: ExportFlags): Promise<void> {
  await withCloser(async (closer) => {
    const store = await openStoreOf({ ...flags, out }, closer);
    const dest = closer.add(
      await openStore(flags.dest, { s3: { endpoint: flags.s3Endpoint, region: flags.s3Region } }),
    );
    const progress = startProgress("exporting", "files");
    const report = await exportRun({
      store,
      run: run ?? (await latestRun(store)),
      format: flags.to,
      dest,
      heads: flags.heads,
      onFile: (done, planned) => progress.update(done, planned),
    }).finally(() => progress.stop());
    if (flags.json) return printJson({ ...report, dest: dest.url });
    const { run: id, format, heads, rows, files, bytes } = report;
    printLine(
      `run ${id} as ${format}: ${count(rows)} rows with ${heads.join(", ")} in ${count(files)} files, ${megabytes(bytes)}, in ${dest.url}`,
    );
  });
}
