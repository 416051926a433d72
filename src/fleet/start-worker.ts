/** The workers' side of a fleet as one call: a worker in this process, until it is done or stopped. */
import { type Logger, pino } from "pino";
import type { InferenceEngine, OpenedEmbedder } from "../../models/engine.ts";
import { openTokenizer } from "../../models/tokenizer/open-tokenizer.ts";
import type { Model } from "../../models/registry/open-model.ts";
import { openEmbedder } from "../../models/resilience/open-embedder.ts";
import type { WorkerCounts } from "../../workers/batch-ledger.ts";
import { Loader } from "../../workers/loader.ts";
import { costOf } from "../../workers/probe-cost.ts";
import { WatchedEmbedder } from "../../workers/watched-embedder.ts";
import { FleetWorker } from "../../workers/worker.ts";
import { CostCache } from "../disk/cost-cache.ts";
import type { Device, DeviceChoice } from "../core/device-name.ts";
import { hasCode } from "../core/errors.ts";
import { DEFAULT_ENGINE } from "../core/same-model.ts";
import { DEFAULT_PACKING, type PackingLimits } from "../core/packing.ts";
import type { Embedder, ObjectStore } from "../core/ports.ts";
import type { QueueWatch } from "../core/queue-server.ts";
import { Heartbeat } from "../core/heartbeat.ts";
import { observeAll } from "../core/telemetry.ts";
import { Reconciler } from "../run/reconciler.ts";
import { mayEnd } from "../run/unfinished.ts";
import { ObservedStore } from "../telemetry/observed-store.ts";
import { WorkerTally } from "../telemetry/worker-tally.ts";
import {
  assertAddresses,
  checkedServerOf,
  Closer,
  engineOf,
  inspectModel,
  modelOf,
  openQueuesOn,
  openStoreOf,
  probeStoreOf,
} from "./open-ports.ts";
import { withDefaults } from "./check-settings.ts";
import { openMetrics } from "./open-metrics.ts";
import { processName } from "./process-name.ts";
import { type Given, type WorkerSettings, workerSettings } from "./settings.ts";

/** Settings of which only `out` and `redis` are required; the others default as on the command line. */
export interface StartWorkerParams extends Given<typeof workerSettings> {
  /** The store: `file:///folder`, `s3://bucket/prefix` or a path. */
  readonly out: string;
  readonly redis: string;
  /** The best device of the engine by default: for ONNX Runtime the first CUDA device, else the CPU. */
  readonly device?: DeviceChoice;
  /** Name in logs, in `status` and in the files; unique in the fleet. Host and process by default. */
  readonly name?: string;
  /** Logger; silent by default. */
  readonly log?: Logger;
}

/** A worker that has started. */
export interface RunningWorker {
  readonly name: string;
  readonly model: string;
  readonly precision: Model["precision"];
  /** The engine's name and version. */
  readonly engine: Readonly<{ name: string; version: string }>;
  /** The store's URL. */
  readonly store: string;
  /** Device, such as `cpu` or `cuda:0`; it may change after a fault of the device. */
  readonly device: string;
  /**
   * Resolves with the worker's counts once it has ended and everything it opened is closed. Rejects with the error that
   * ended it; after `inference_hung` a thread remains that cannot be ended, and with it a process that only a
   * SIGKILL ends.
   */
  readonly done: Promise<WorkerCounts>;
  /** Takes no more jobs, returns those not started, finishes the others; resolves when the worker has ended. */
  stop(): Promise<void>;
}

/** Limit on waiting for Redis at the end: less than the grace period of most machines. */
const REDIS_PATIENCE_MS = 10_000;

let started = 0;

/**
 * Starts a worker in this process: it takes jobs of its fleet and model until `stop()`, or until all are
 * done with `exitWhenDone`. Several may run, each with a thread for its model. No signal is handled here.
 *
 * @throws FleetError `bad_usage`, `model_invalid`, `store_refused`, and errors of the store and Redis
 */
export async function startWorker(params: StartWorkerParams): Promise<RunningWorker> {
  const { device = "auto", name = newWorkerName(), log = pino({ level: "silent" }), ...given } = params;
  const settings = withDefaults(workerSettings, given);
  assertAddresses(settings);
  const closer = new Closer();
  const giveUp = new AbortController();
  const engine = engineOf(settings);
  const place = {
    name,
    engine,
    device: engine.chooseDevice(device),
    log: log.child({ worker: name }),
    giveUp: giveUp.signal,
  };
  const { worker, embedder, model, store, redisWatch } = await open(settings, place, closer).catch((error: unknown) =>
    fail(closer, error),
  );
  const done = worker
    .run()
    .catch((error: unknown) => {
      // Without Redis it could not ask whether more jobs exist; the results of started jobs are in the store.
      if (!giveUp.signal.aborted || !hasCode(error, "redis_unavailable")) throw error;
    })
    .then(
      () => closer.close().then(() => ({ ...worker.counts })),
      (error: unknown) => fail(closer, error),
    );
  const ended = done.then(
    () => {},
    () => {},
  );
  let stopping: Promise<void> | null = null;
  return {
    name,
    model: model.manifest.id,
    precision: model.precision,
    engine: { name: engine.name, version: engine.version },
    store: store.url,
    get device() {
      return embedder.device;
    },
    done,
    stop: () => {
      if (stopping === null) void leaveIfSilent(redisWatch, ended, giveUp, place.log);
      stopping ??= worker.stop().then(() => ended);
      return stopping;
    },
  };
}

/** A worker that is ending does not wait for an absent Redis: nothing it could write there is needed. */
async function leaveIfSilent(
  redisWatch: QueueWatch,
  ended: Promise<void>,
  giveUp: AbortController,
  log: Logger,
): Promise<void> {
  if (!(await redisWatch.fallsSilent({ patienceMs: REDIS_PATIENCE_MS, until: ended }))) return;
  log.warn(
    "Redis does not answer: the worker exits without it, and its remaining jobs go to others when their locks expire",
  );
  giveUp.abort();
}

async function fail(closer: Closer, error: unknown): Promise<never> {
  const closed = closer.close().catch(() => {});
  // A thread inside a native call can be neither terminated nor joined, so closing would never end.
  if (!hasCode(error, "inference_hung")) await closed;
  throw error;
}

async function open(
  settings: WorkerSettings,
  {
    name,
    engine,
    device,
    log,
    giveUp,
  }: Readonly<{ name: string; engine: InferenceEngine; device: Device; log: Logger; giveUp: AbortSignal }>,
  closer: Closer,
): Promise<{ worker: FleetWorker; embedder: Embedder; model: Model; store: ObjectStore; redisWatch: QueueWatch }> {
  const model = await modelOf(settings, log);
  // Whoever planned the run has accepted it.
  inspectModel({ ...settings, allowBatchDependent: true }, model, log);
  await openTokenizer(model, "passage");
  const tally = new WorkerTally({ name, model: model.manifest.id });
  const maxBatchMs = settings.maxBatchSeconds * 1000;
  const metrics = await openMetrics({ settings, role: "worker", instance: name, maxBatchMs, closer, log });
  const observe = observeAll([tally.observe, metrics]);
  // Redis first: it answers or fails within seconds, whereas a store's folder is waited for.
  const server = await checkedServerOf(settings, log, giveUp);
  const redisWatch = closer.add(server.watch(observe));
  const store = new ObservedStore(await openStoreOf(settings, closer, { log }), observe);
  await probeStoreOf(store, settings, log);
  const { ofModel, queue } = await openQueuesOn(server, { store, model: model.manifest.id }, closer);
  const fleet = ofModel.name;
  const producers = closer.add(ofModel.producers());
  const workers = closer.add(ofModel.workers());
  const turn = closer.add(ofModel.turn());
  const { keepStaging, reconcileSeconds } = settings;
  const reconciler = closer.add(
    new Reconciler({ store, queue, turn, fleet, keepStaging, intervalMs: reconcileSeconds * 1000, log, observe }),
  );
  const heartbeat = new Heartbeat({ maxSilentMs: maxBatchMs });
  // Before the model, so that their thread starts while the model loads.
  const lockDurationMs = settings.lockSeconds * 1000;
  const leases = closer.add(ofModel.leases({ workerId: name, lockDurationMs, heartbeat, observe }));
  const opened = await openEmbedder({ ...settings, engine, model, device, log, observe });
  const embedder = closer.add(new WatchedEmbedder({ embedder: opened.embedder, heartbeat }));
  /** Runs that this worker had jobs of. */
  const seen = new Set<string>();
  const worker = new FleetWorker({
    name,
    store,
    leases,
    embedder,
    batchesInFlight: opened.batchesInFlight,
    engineVersion: engine.version,
    sandbox: engine.openSandbox?.({ model, threads: settings.threads, maxBatchMs }) ?? null,
    loader: loaderOf(store, model, engine, log),
    packing: await packingOf(settings, model, engine, { ...opened, embedder }, log),
    maxHeldBytes: settings.maxHeldBytes,
    log,
    observe,
    onIdle: async (runs) => {
      for (const run of runs) seen.add(run);
      // The first worker to notice that a run is complete seals it, and the others leave it to that one.
      // Verifying a large run takes minutes, and other runs' jobs may arrive meanwhile.
      const reconciling = runs.size > 0 ? reconciler.reconcile() : null;
      if (settings.exitWhenDone) await reconciling;
      if (!settings.exitWhenDone || (await producers.present()).length > 0) return false;
      return mayEnd({ store, fleet, seen, queue, reconciler });
    },
  });
  await workers.announce(name, () => tally.state(embedder.device));
  reconciler.start();
  return { worker, embedder, model, store, redisWatch };
}

function loaderOf(store: ObjectStore, model: Model, engine: InferenceEngine, log: Logger): Loader {
  const { ref, precision, manifest } = model;
  const { heads } = engine.offers(manifest);
  const { vocabSize } = manifest.architecture;
  return new Loader({ store, model: ref, precision, heads, vocabSize, engine, log });
}

/** Duration of the probe, once per device; then its cost model is cached. */
const PROBE_MS = 1000;

async function packingOf(
  settings: WorkerSettings,
  model: Model,
  engine: InferenceEngine,
  opened: OpenedEmbedder,
  log: Logger,
): Promise<PackingLimits> {
  const { maxBatchTokens, maxBatchRows, threads } = settings;
  const { embedder } = opened;
  const { dim, architecture } = model.manifest;
  const cost = await costOf({
    embedder,
    dim,
    heads: engine.offers(model.manifest).heads,
    maxTokens: architecture.maxTokens,
    vocabSize: architecture.vocabSize,
    maxBatchTokens,
    budgetMs: PROBE_MS,
    cache: new CostCache(settings.cacheFolder),
    key: {
      modelSha256: model.ref.sha256,
      precision: model.precision,
      device: embedder.device,
      threads,
      ...(engine.name !== DEFAULT_ENGINE && { engine: `${engine.name} ${engine.version}` }),
    },
    log,
  });
  const paddedLength = (longest: number): number => embedder.paddedLength(longest);
  return {
    ...DEFAULT_PACKING,
    // Read for every plan: the device's memory may have turned out smaller.
    get maxBatchTokens() {
      return Math.min(maxBatchTokens, opened.maxBatchTokens());
    },
    maxBatchRows,
    cost,
    paddedLength,
  };
}

/** The first worker of a process has the plain name; two with the same name would take each other's leases. */
function newWorkerName(): string {
  started += 1;
  return started === 1 ? processName() : `${processName()}-${started}`;
}
