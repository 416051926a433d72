/** `embedfleet report`: writes an HTML report of a run, with charts and their figures. */
import { writeFile } from "node:fs/promises";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { FleetError, messageOf } from "../../core/errors.ts";
import { collectFigures } from "../../report/figures.ts";
import { renderReport } from "../../report/render-report.ts";
import type { ReportCommand } from "../command-settings.ts";
import { printJson, printLine } from "../output.ts";
import { openStoreOf, withCloser } from "../../fleet/open-ports.ts";
import { startProgress } from "../progress-bar.ts";
import { programVersion } from "../../fleet/program-version.ts";

export async function report(run: string, settings: ReportCommand): Promise<void> {
  await withCloser(async (closer) => {
    const store = await openStoreOf(settings, closer);
    const progress = startProgress("reading", "shards");
    const figures = await collectFigures({
      store,
      run,
      onShard: (done, planned) => progress.update(done, planned),
    }).finally(() => progress.stop());
    if (settings.json) printJson(figures);
    if (settings.json && settings.file === undefined) return;
    const file = resolve(settings.file ?? `${run}.html`);
    await writeReport(file, renderReport(figures, programVersion()));
    if (!settings.json) printLine(pathToFileURL(file).href);
  });
}

async function writeReport(file: string, html: string): Promise<void> {
  try {
    await writeFile(file, html);
  } catch (error) {
    throw new FleetError("bad_usage", `the report cannot be written to ${file}: ${messageOf(error)}`, {
      cure: "pass another path with --file",
      cause: error,
    });
  }
}
