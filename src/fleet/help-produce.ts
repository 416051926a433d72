/** The helpers' side of `enqueue --distributed` as one call. */
import { setTimeout as sleep } from "node:timers/promises";
import { type Logger, pino } from "pino";
import { allowedInputs } from "../adapters/allowed-inputs.ts";
import type { RunRecord } from "../core/contracts.ts";
import { FleetError } from "../core/errors.ts";
import type { ObjectStore } from "../core/ports.ts";
import { givesSameVectors, modelName } from "../core/same-model.ts";
import { assertNotCancelled, isCancelled } from "../run/cancelled.ts";
import { readClosed, readRun } from "../run/read-plan.ts";
import { ensureStoreId } from "../run/store-id.ts";
import { ObservedStore } from "../telemetry/observed-store.ts";
import {
  assertAddresses,
  checkServer,
  modelOf,
  openStoreOf,
  probeStoreOf,
  queueServerOf,
  withCloser,
} from "./open-ports.ts";
import { openCutter } from "./enqueue-corpus.ts";
import { takeParts } from "./share-parts.ts";
import { withDefaults } from "./check-settings.ts";
import { openMetrics } from "./open-metrics.ts";
import { processName } from "./process-name.ts";
import { type Given, produceSettings } from "./settings.ts";

const POLL_INTERVAL_MS = 1000;

/** Settings of which only `out` and `redis` are required; the others default as on the command line. */
export interface HelpProduceParams extends Given<typeof produceSettings> {
  readonly run: string;
  readonly out: string;
  readonly redis: string;
  /** Logger; silent by default. */
  readonly log?: Logger;
  /** Stops at once; another helper restarts the parts in progress. */
  readonly signal?: AbortSignal;
}

/**
 * Reads and tokenises parts of a run's corpus until its plan is complete. The corpus must be at the places in the run's
 * record, under the same names on every machine.
 *
 * @returns The number of parts made here.
 * @throws FleetError `run_unknown`, `run_cancelled`, `source_refused` when the corpus is not below `inputsBelow`, `run_conflict` when the model or embedfleet's version differs
 *   from the run's
 */
export async function helpProduce(params: HelpProduceParams): Promise<{ run: string; parts: number }> {
  const { run, log = pino({ level: "silent" }), signal, ...given } = params;
  const settings = withDefaults(produceSettings, given);
  return withCloser(async (closer) => {
    assertAddresses(settings);
    const server = queueServerOf(settings, log);
    const bare = await openStoreOf(settings, closer, { log });
    const record = await settledRun(bare, run, signal);
    if (record === null) return { run, parts: 0 };
    const { options } = record;
    await assertMayRead(record, settings.inputsBelow);
    const model = await modelOf({ ...settings, precision: options.precision }, log);
    if (model.ref.id !== options.model.id || !givesSameVectors(model.ref, options.model))
      throw new FleetError(
        "run_conflict",
        `run ${run} uses ${modelName(options.model)}, but this machine has ${modelName(model.ref)}`,
        {
          cure: "pass the run's own model with --model, at the same revision and with the same tokenizer and configuration",
        },
      );
    await checkServer(server, settings, log);
    const observe = await openMetrics({ settings, role: "producer", instance: processName(), closer, log });
    closer.add(server.watch(observe));
    const store = new ObservedStore(bare, observe);
    await probeStoreOf(store, settings, log);
    const s3 = { endpoint: settings.s3Endpoint, region: settings.s3Region };
    const chunker = await openCutter(
      settings.producerThreads,
      { model, cutting: options, reading: options, s3 },
      closer,
    );
    const { queue, made } = await takeParts({
      settings,
      queues: server.ofStore(await ensureStoreId(store)),
      store,
      record,
      chunker,
      closer,
      log,
      observe,
      signal,
    });
    log.info({ run }, "helping to produce the run");
    for (;;) {
      const isPlanned = (await readClosed(store, run)) !== null;
      const isOver = isPlanned || (await isCancelled(store, run));
      // The lead removes the queue too; the last process to leave has removed it.
      if (isOver) await queue.drop();
      if (isPlanned || signal?.aborted === true) return { run, parts: made() };
      if (isOver) await assertNotCancelled(store, run);
      // A run that was removed will never be planned.
      await readRun(store, run);
      await sleep(POLL_INTERVAL_MS);
    }
  });
}

/** Waits until the run's options are fixed: before, another command may begin it anew. @returns Null when aborted. */
async function settledRun(store: ObjectStore, run: string, signal: AbortSignal | undefined): Promise<RunRecord | null> {
  for (;;) {
    const record = await readRun(store, run);
    if (record.unplanned === undefined) return record;
    if (signal?.aborted === true) return null;
    await assertNotCancelled(store, run);
    await sleep(POLL_INTERVAL_MS);
  }
}

/** Refuses inputs outside `below`: anyone who can write to the store can write a run's record, and so choose them. */
async function assertMayRead({ run, inputs }: RunRecord, below: readonly string[]): Promise<void> {
  if (below.length === 0) return;
  const outcome = await allowedInputs(inputs, below);
  if (!("refused" in outcome)) return;
  throw new FleetError("source_refused", `run ${run} reads ${JSON.stringify(outcome.refused)}: ${outcome.why}`, {
    cure: "pass the folder or s3://bucket/prefix of its corpus with --inputs-below, if this machine may read it",
  });
}
