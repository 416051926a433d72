/** `embedfleet enqueue`: plan a corpus and queue it; workers elsewhere do the rest. */
import type { Logger } from "pino";
import { openTokenizer } from "../../../models/model-tokenizer.ts";
import type { Model } from "../../../models/open-model.ts";
import { Backpressure } from "../../../producers/backpressure.ts";
import { produce } from "../../../producers/produce.ts";
import { Corpus } from "../../../producers/sources/corpus.ts";
import { Presence } from "../../adapters/redis/presence.ts";
import { producersKey, queueName } from "../../adapters/redis/queue-options.ts";
import type { ClosedRecord, RunRecord } from "../../core/contracts.ts";
import type { JobQueue, ObjectStore, QueueGauge, Tokenizer } from "../../core/ports.ts";
import { markActive } from "../../run/active-runs.ts";
import { assertNotCancelled } from "../../run/cancelled.ts";
import { openRun } from "../../run/open-run.ts";
import { readProgress } from "../../run/progress.ts";
import {
  type Closer,
  loggerOf,
  type ModelFlags,
  modelOf,
  openQueueOf,
  openStoreOf,
  type PlanFlags,
  printJson,
  probeStoreOf,
  type QueueFlags,
  redisOf,
  runOptionsOf,
  selectionOf,
  type StoreFlags,
  withCloser,
} from "../context.ts";
import { workerName } from "../../config.ts";
import type { ProducerState } from "../../core/worker-state.ts";
import type { Observe } from "../../core/telemetry.ts";
import { ObservedStore } from "../../telemetry/observed-store.ts";
import { type MetricsFlags, openMetrics } from "../telemetry.ts";
import { startProgress } from "../progress.ts";

export interface EnqueueFlags extends StoreFlags, QueueFlags, ModelFlags, PlanFlags, MetricsFlags {
  readonly run?: string;
  readonly since?: string;
  readonly maxRejects?: number;
  readonly strict: boolean;
  readonly maxBacklog: number;
  readonly unsafeStore: boolean;
  readonly json: boolean;
}

export async function enqueue(inputs: readonly string[], flags: EnqueueFlags): Promise<void> {
  await withCloser(async (closer) => {
    const log = loggerOf(flags);
    const { store, model, tokenizer, corpus, observe } = await prepare(inputs, flags, closer, log);
    const queue = await openQueueOf(flags, model.manifest.id, closer, log);
    const { run } = await plan({ inputs, flags, corpus, store, queue, model, tokenizer, observe, closer, log });
    const report = await readProgress({ store, run, queue: await queue.counts() });
    if (flags.json) return printJson(report);
    console.log(
      `run ${run}: ${report.documents} documents, ${report.plannedRows} rows in ${report.plannedShards} shards queued, ${report.rejects} rejected`,
    );
    console.log(`follow it with: embedfleet status ${run} --out ${store.url}`);
  });
}

/** Everything that can be refused before anything is written or queued. */
export async function prepare(
  inputs: readonly string[],
  flags: EnqueueFlags,
  closer: Closer,
  log: Logger,
): Promise<{ store: ObjectStore; model: Model; tokenizer: Tokenizer; corpus: Corpus; observe: Observe }> {
  const corpus = closer.add(
    new Corpus({
      inputs,
      ...selectionOf(flags),
      maxDocumentBytes: flags.maxDocumentBytes,
      s3: { endpoint: flags.s3Endpoint, region: flags.s3Region },
    }),
  );
  await corpus.check();
  const model = await modelOf(flags, log, flags);
  const tokenizer = await openTokenizer(model, "passage");
  const observe = await openMetrics({ flags, role: "producer", instance: workerName(), closer, log });
  const store = new ObservedStore(await openStoreOf(flags, closer), observe);
  await probeStoreOf(store, flags, log);
  return { store, model, tokenizer, corpus, observe };
}

/** Creates or continues the run and reads the corpus to its end. */
export async function plan(
  params: Readonly<{
    inputs: readonly string[];
    flags: EnqueueFlags;
    corpus: Corpus;
    store: ObjectStore;
    queue: JobQueue & QueueGauge;
    model: Model;
    observe: Observe;
    tokenizer: Tokenizer;
    closer: Closer;
    log: Logger;
    signal?: AbortSignal;
  }>,
): Promise<{ run: string; closed: ClosedRecord }> {
  const { inputs, flags, corpus, store, queue, model, tokenizer, observe, closer, log } = params;
  const run = flags.run ?? newRunId();
  const options = runOptionsOf(flags, model);
  const { record, isNew } = await openRun(store, { run, inputs, options, since: flags.since });
  await assertNotCancelled(store, run);
  log.info({ run, inputs }, isNew ? "a new run begins" : "the run is continued");
  sayLineage(record, log);
  const redisUrl = redisOf(flags);
  const fleet = queueName(flags.fleet, model.manifest.id);
  const presence = closer.add(new Presence({ redisUrl, key: producersKey(fleet) }));
  const backpressure = new Backpressure({ gauge: queue, maxBacklog: flags.maxBacklog, log, observe });
  await presence.announce(run, (): ProducerState => ({ waitsFor: backpressure.waitsFor }));
  await markActive(store, { fleet, run });
  const progress = startProgress("planning", "documents");
  try {
    const closed = await produce({
      store,
      queue,
      tokenizer,
      record,
      items: corpus.items(),
      maxRejects: flags.strict ? 0 : (flags.maxRejects ?? null),
      observe,
      untilRoom: (window) => backpressure.untilRoom(window),
      onProgress: ({ documents }) => progress.update(documents, documents),
      ...(params.signal && { signal: params.signal }),
    });
    if (closed.rejects > 0)
      log.warn(
        { run, rejects: closed.rejects },
        "documents were rejected; rejects/ in the run's folder says which and why",
      );
    return { run, closed };
  } finally {
    progress.stop();
    await presence.withdraw(run);
  }
}

function sayLineage({ run, lineage }: RunRecord, log: Logger): void {
  if (lineage?.kind === "delta") log.info({ run, base: lineage.base }, "only what is new or changed is embedded");
  if (lineage?.kind === "full") log.warn({ run, since: lineage.since }, `everything is embedded: ${lineage.because}`);
}

/** Sorts by time of creation: `20261124-021530-x7k2`. */
export function newRunId(): string {
  const [date, time] = new Date().toISOString().split("T") as [string, string];
  const suffix = Math.random().toString(36).slice(2, 6).padEnd(4, "0");
  return `${date.replaceAll("-", "")}-${time.slice(0, 8).replaceAll(":", "")}-${suffix}`;
}
