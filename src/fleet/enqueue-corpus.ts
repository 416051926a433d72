/** The producers' side of a fleet as one call, from a corpus to a planned and queued run. */
import { type Logger, pino } from "pino";
import { chooseEngine } from "../../models/choose-engine.ts";
import { openTokenizer } from "../../models/tokenizer/open-tokenizer.ts";
import type { Model } from "../../models/registry/open-model.ts";
import { Backpressure } from "../../producers/backpressure.ts";
import { LocalChunker } from "../../producers/chunking/chunker.ts";
import { produce } from "../../producers/plan-corpus.ts";
import { ProducerThreads } from "../../producers/parts/producer-threads.ts";
import type { ThreadSetup } from "../../producers/parts/producer-messages.ts";
import { Corpus } from "../../producers/corpus.ts";
import { sayCounts } from "../../producers/sources/passed-over.ts";
import type { ClosedRecord, Limit, RunRecord } from "../core/contracts.ts";
import { hasCode } from "../core/errors.ts";
import { type Hold, holdOf } from "../core/guards.ts";
import type { ObjectStore } from "../core/ports.ts";
import type { Observe } from "../core/telemetry.ts";
import type { ProducerState } from "../core/worker-state.ts";
import { markActive } from "../run/active-runs.ts";
import { assertNotCancelled } from "../run/cancelled.ts";
import { acceptRun, findHold, heldFault } from "../run/hold.ts";
import { openRun, settleRun } from "../run/open-run.ts";
import { readProgress, type RunReport } from "../run/run-progress.ts";
import { ObservedStore } from "../telemetry/observed-store.ts";
import {
  assertAddresses,
  type Closer,
  guardsOf,
  inspectModel,
  modelOf,
  type OpenedQueue,
  openQueueOf,
  openStoreOf,
  probeStoreOf,
  runOptionsOf,
  selectionOf,
  withCloser,
} from "./open-ports.ts";
import { shareParts } from "./share-parts.ts";
import { withDefaults } from "./check-settings.ts";
import { openMetrics } from "./open-metrics.ts";
import { programVersion } from "./program-version.ts";
import { processName } from "./process-name.ts";
import { type EnqueueSettings, enqueueSettings, type Given } from "./settings.ts";

/** Settings of which only `out` and `redis` are required; the others default as on the command line. */
export interface EnqueueParams extends Given<typeof enqueueSettings> {
  /** Files, folders, patterns, `s3://bucket/prefix`, or `-` for standard input. */
  readonly inputs: readonly string[];
  /** The store: `file:///folder`, `s3://bucket/prefix` or a path. */
  readonly out: string;
  readonly redis: string;
  /** Logger; silent by default. */
  readonly log?: Logger;
  /** Stops planning between documents; the same call with the same `run` continues from there. */
  readonly signal?: AbortSignal;
  /** Called with the number of documents read so far. */
  readonly onDocuments?: (documents: number) => void;
}

/**
 * Plans a corpus and queues it; workers, here or elsewhere, compute it. Everything it opened is closed
 * when it settles.
 *
 * @returns The run's progress; its id is `run`.
 * @throws FleetError `run_held` when more was rejected or removed than `maxRejects` and `maxDeletes` allow: the run is
 * planned and queued, and not sealed until it is accepted; `bad_usage`, `source_unreadable`, `store_refused`, and errors of store, Redis and model
 */
export async function enqueueCorpus(params: EnqueueParams): Promise<RunReport> {
  const { inputs, log = pino({ level: "silent" }), signal, onDocuments, ...given } = params;
  const settings = withDefaults(enqueueSettings, given);
  return withCloser(async (closer) => {
    const prepared = await prepare(inputs, settings, closer, log);
    const { store, model } = prepared;
    const opened = await openQueueOf(settings, { store, model: model.manifest.id }, closer, log);
    closer.add(opened.server.watch(prepared.observe));
    const { queue } = opened;
    const what = { ...prepared, ...opened, inputs, settings, closer, log, signal, onDocuments };
    const { run, closed, hold } = await plan(what);
    if (hold !== null) throw await heldFault(store, { hold, closed });
    const report = await readProgress({ store, run, queue: await queue.counts() });
    return { ...report, sources: prepared.corpus.sources };
  });
}

export interface Prepared {
  readonly store: ObjectStore;
  readonly model: Model;
  /** `ProducerThreads` read the corpus as well. */
  readonly chunker: LocalChunker | ProducerThreads;
  readonly corpus: Corpus;
  readonly observe: Observe;
}

/**
 * Performs every check that can fail before anything is written or queued.
 * @param options.makeRoot Whether to create a missing store folder; true by default.
 * @param options.linksBelow Places that targets of symbolic links must be below; anywhere by default.
 */
export async function prepare(
  inputs: readonly string[],
  settings: EnqueueSettings,
  closer: Closer,
  log: Logger,
  { makeRoot = true, linksBelow }: Readonly<{ makeRoot?: boolean; linksBelow?: readonly string[] | undefined }> = {},
): Promise<Prepared> {
  assertAddresses(settings);
  const reading = { ...selectionOf(settings), maxDocumentBytes: settings.maxDocumentBytes };
  const s3 = { endpoint: settings.s3Endpoint, region: settings.s3Region };
  const corpus = closer.add(new Corpus({ inputs, ...reading, s3, noFollow: settings.noFollow, linksBelow }));
  await corpus.check();
  const model = await modelOf(settings, log, settings);
  inspectModel(settings, model, log);
  const setup = { model, cutting: runOptionsOf(settings, model), reading, s3 };
  const chunker = await openCutter(settings.producerThreads, setup, closer);
  const observe = await openMetrics({ settings, role: "producer", instance: processName(), closer, log });
  const store = new ObservedStore(await openStoreOf(settings, closer, { makeRoot, log }), observe);
  await probeStoreOf(store, settings, log);
  return { store, model, chunker, corpus, observe };
}

/** Opens a chunker on this thread, or several threads that read as well. */
export async function openCutter(
  threads: number,
  setup: ThreadSetup,
  closer: Closer,
): Promise<LocalChunker | ProducerThreads> {
  if (threads > 1) return closer.add(await ProducerThreads.open({ threads, setup }));
  const { model, cutting } = setup;
  return new LocalChunker({ tokenizer: await openTokenizer(model, "passage", cutting.prompt ?? ""), options: cutting });
}

/** Creates or continues the run and reads the corpus to its end. */
export async function plan(
  params: Prepared &
    OpenedQueue &
    Readonly<{
      inputs: readonly string[];
      settings: EnqueueSettings;
      closer: Closer;
      log: Logger;
      signal?: AbortSignal | undefined;
      onDocuments?: ((documents: number) => void) | undefined;
    }>,
): Promise<{ run: string; closed: ClosedRecord; hold: Hold | null }> {
  const { inputs, settings, corpus, store, ofModel, queue, model, chunker, observe, closer, log } = params;
  const run = settings.run ?? newRunId();
  const options = runOptionsOf(settings, model);
  const { record: opened, isNew } = await openRun(store, {
    run,
    inputs,
    options,
    since: settings.since,
    program: programVersion(),
    engineVersion: chooseEngine(settings.engine, model.manifest).version,
    guards: guardsOf(settings),
    settlesLater: true,
  });
  await assertNotCancelled(store, run);
  // Helpers cut by the record's options, so those of a shared corpus are fixed before any part is offered.
  const record = settings.distributed ? await settleRun(store, opened) : opened;
  log.info({ run, inputs }, isNew ? "a new run begins" : "the run continues");
  sayLineage(record, log);
  const presence = closer.add(ofModel.producers());
  const backpressure = new Backpressure({ gauge: queue, maxBacklog: settings.maxBacklog, log, observe });
  await presence.announce(run, (): ProducerState => ({ waitsFor: backpressure.waitsFor }));
  await markActive(store, { fleet: ofModel.name, run });
  const shared = await shareParts({ ...params, record });
  try {
    const closed = await produce({
      store,
      queue,
      chunker,
      record,
      items: shared?.items ?? corpus.items(chunker instanceof ProducerThreads ? chunker : undefined),
      maxRejects: countOf(guardsOf(settings).maxRejects),
      observe,
      untilRoom: (window) => backpressure.untilRoom(window),
      onProgress: ({ documents }) => params.onDocuments?.(documents),
      onCleaned: (cleaned) =>
        log.warn({ run, ...cleaned }, "characters that no text has were replaced by U+FFFD; see --clean"),
      ...(params.signal && { signal: params.signal }),
    });
    log.info({ run }, `files: ${sayCounts(corpus.sources)}`);
    if (closed.rejects > 0)
      log.warn(
        { run, rejects: closed.rejects },
        "documents were rejected; rejects/ in the run's folder lists them with the reasons",
      );
    await shared?.finish();
    return { run, closed, hold: await holdUnlessAllowed(store, { record, closed, settings }) };
  } catch (error) {
    // The parts of a cancelled run will never be used.
    if (hasCode(error, "run_cancelled")) await shared?.finish();
    throw error;
  } finally {
    await presence.withdraw(run);
  }
}

/** The limit as a count, which stops the producer; null for a share, known only when everything is read. */
function countOf(limit: Limit): number | null {
  return typeof limit === "number" ? limit : null;
}

/** Holds a run that exceeds its guards; guards wider than those that it was started with accept it. */
async function holdUnlessAllowed(
  store: ObjectStore,
  params: Readonly<{ record: RunRecord; closed: ClosedRecord; settings: EnqueueSettings }>,
): Promise<Hold | null> {
  const { record, closed, settings } = params;
  const hold = await findHold(store, { record, closed });
  if (hold === null || holdOf({ guards: guardsOf(settings) }, closed) !== null) return hold;
  await acceptRun(store, record.run);
  return null;
}

function sayLineage({ run, lineage }: RunRecord, log: Logger): void {
  if (lineage?.kind === "delta") log.info({ run, base: lineage.base }, "only what is new or changed is embedded");
  if (lineage?.kind === "full")
    log.warn({ run, since: lineage.since }, `all documents are embedded: ${lineage.because}`);
}

/** An id that sorts by time of creation, such as `20261124-021530-x7k2`. */
export function newRunId(): string {
  const [date, time] = new Date().toISOString().split("T") as [string, string];
  const suffix = Math.random().toString(36).slice(2, 6).padEnd(4, "0");
  return `${date.replaceAll("-", "")}-${time.slice(0, 8).replaceAll(":", "")}-${suffix}`;
}
