/** `embedfleet enqueue`: plan a corpus and queue it; workers elsewhere do the rest. */
import { sayCounts } from "../../../producers/sources/passed-over.ts";
import { redisOf } from "../../fleet/open-ports.ts";
import { enqueueCorpus, newRunId } from "../../fleet/enqueue-corpus.ts";
import type { EnqueueCommand } from "../command-settings.ts";
import { loggerOf, printJson, printLine } from "../output.ts";
import { interruptionOf, untilAborted } from "../interrupt.ts";
import { startProgress } from "../progress-bar.ts";

export async function enqueue(inputs: readonly string[], settings: EnqueueCommand): Promise<void> {
  const { json, out } = settings;
  const run = settings.run ?? newRunId();
  const { signal, leave } = interruptionOf(run);
  signal.addEventListener("abort", leave, { once: true });
  const params = { ...settings, run, inputs, redis: redisOf(settings), log: loggerOf(settings), signal };
  const report = await withPlanningBar((onDocuments) => {
    const planned = enqueueCorpus({ ...params, onDocuments });
    // Planning rejects as well when the command is asked to stop, later if it is waiting for documents.
    planned.catch(() => {});
    return Promise.race([planned, untilAborted(signal)]);
  });
  if (json) return printJson(report);
  printLine(
    `run ${report.run}: ${report.documents} documents, ${report.plannedRows} rows in ${report.plannedShards} shards queued, ${report.rejects} rejected`,
  );
  if (report.sources !== undefined) printLine(`files: ${sayCounts(report.sources)}`);
  printLine(`follow it with: embedfleet status ${report.run} --out ${out}`);
}

/** Shows a progress bar of the documents read while `act` plans them. */
export async function withPlanningBar<T>(act: (onDocuments: (documents: number) => void) => Promise<T>): Promise<T> {
  const progress = startProgress("planning", "documents");
  try {
    return await act((documents) => progress.update(documents, documents));
  } finally {
    progress.stop();
  }
}
