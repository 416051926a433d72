/** `embedfleet export`: writes a run as files that another system loads. */
import { openStore } from "../../adapters/open-store.ts";
import { exportRun } from "../../results/export/export-run.ts";
import { latestRun } from "../../run/list-runs.ts";
import type { ExportCommand } from "../command-settings.ts";
import { printJson, printLine } from "../output.ts";
import { openStoreOf, withCloser } from "../../fleet/open-ports.ts";
import { startProgress } from "../progress-bar.ts";
import { count, megabytes } from "../../core/format-figures.ts";

export async function exportTo(out: string, run: string | undefined, settings: ExportCommand): Promise<void> {
  await withCloser(async (closer) => {
    const store = await openStoreOf({ ...settings, out }, closer);
    const dest = closer.add(
      await openStore(settings.dest, { s3: { endpoint: settings.s3Endpoint, region: settings.s3Region } }),
    );
    const progress = startProgress("exporting", "files");
    const report = await exportRun({
      store,
      run: run ?? (await latestRun(store)),
      format: settings.to,
      dest,
      heads: settings.heads,
      onFile: (done, planned) => progress.update(done, planned),
    }).finally(() => progress.stop());
    if (settings.json) return printJson({ ...report, dest: dest.url });
    const { run: id, format, heads, rows, files, bytes } = report;
    printLine(
      `run ${id} as ${format}: ${count(rows)} rows with ${heads.join(", ")} in ${count(files)} files, ${megabytes(bytes)}, in ${dest.url}`,
    );
  });
}
