/** `embedfleet models export`: converts PyTorch weights to the graphs that the fleet runs. */
import { exportModel as runExporter } from "../../../models/export/run-exporter.ts";
import type { ExportModelCommand } from "../model-settings.ts";
import { printLine } from "../output.ts";

export async function exportModel(source: string, settings: ExportModelCommand): Promise<void> {
  await runExporter({ ...settings, source });
  printLine(`use it with --model ${settings.into}`);
}
