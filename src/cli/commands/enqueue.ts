/** `embedfleet enqueue`: plan a corpus and queue it; workers elsewhere do the rest. */
import { redisOf } from "../../fleet/open-ports.ts";
import { enqueueCorpus, type EnqueueSettings, newRunId } from "../../fleet/enqueue-corpus.ts";
import { type LogFlags, loggerOf, printJson, printLine } from "../output.ts";
import { interruptionOf, untilAborted } from "../interrupt.ts";
import { startProgress } from "../progress-bar.ts";

export interface EnqueueFlags extends EnqueueSettings, LogFlags {
  readonly json: boolean;
}

export async function enqueue(inputs: readonly string[], flags: EnqueueFlags): Promise<void> {
  const { json, out } = flags;
  const run = flags.run ?? newRunId();
  const { signal, leave } = interruptionOf(run);
  signal.addEventListener("abort", leave, { once: true });
  const settings = { ...flags, run, inputs, redis: redisOf(flags), log: loggerOf(flags), signal };
  const report = await withPlanningBar((onDocuments) => {
    const planned = enqueueCorpus({ ...settings, onDocuments });
    // Told to go it fails as well, later where it waits for documents.
    planned.catch(() => {});
    return Promise.race([planned, untilAborted(signal)]);
  });
  if (json) return printJson(report);
  printLine(
    `run ${report.run}: ${report.documents} documents, ${report.plannedRows} rows in ${report.plannedShards} shards queued, ${report.rejects} rejected`,
  );
  printLine(`follow it with: embedfleet status ${report.run} --out ${out}`);
}

/** A bar of the documents read, while `act` plans them. */
export async function withPlanningBar<T>(act: (onDocuments: (documents: number) => void) => Promise<T>): Promise<T> {
  const progress = startProgress("planning", "documents");
  try {
    return await act((documents) => progress.update(documents, documents));
  } finally {
    progress.stop();
  }
}
