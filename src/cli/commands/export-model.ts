/** `embedfleet models export`: from PyTorch weights to the graphs that the fleet runs. */
import { exportModel as runExporter } from "../../../models/export/run-exporter.ts";
import { cacheFolder } from "../../config.ts";
import { printLine } from "../output.ts";

export interface ExportModelFlags {
  readonly into: string;
  readonly precisions: readonly string[];
  readonly keepFloat: readonly string[];
  readonly tensorrt: boolean;
}

export async function exportModel(source: string, flags: ExportModelFlags): Promise<void> {
  await runExporter({ ...flags, source, cacheFolder: cacheFolder() });
  printLine(`use it with --model ${flags.into}`);
}
