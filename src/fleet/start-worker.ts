/** The workers' side of a fleet as one call: a worker that runs in this process until it is done or stopped. */
import { type Logger, pino } from "pino";
import { chooseDevice, type Device } from "../../models/onnx/device.ts";
import { openTokenizer } from "../../models/tokenizer/open-tokenizer.ts";
import { type OpenedEmbedder, openEmbedder } from "../../models/onnx/onnx-engine.ts";
import type { Model } from "../../models/registry/open-model.ts";
import { SandboxEmbedder } from "../../models/onnx/sandbox.ts";
import type { WorkerCounts } from "../../workers/batch-ledger.ts";
import { Loader } from "../../workers/loader.ts";
import { costOf } from "../../workers/probe-cost.ts";
import { WatchedEmbedder } from "../../workers/watched-embedder.ts";
import { FleetWorker } from "../../workers/worker.ts";
import { CostCache } from "../disk/cost-cache.ts";
import { BullLeases } from "../adapters/redis/bull-leases.ts";
import { Presence } from "../adapters/redis/presence.ts";
import { producersKey, queueName, turnKey, workersKey } from "../adapters/redis/queue-options.ts";
import { RedisTurn } from "../adapters/redis/redis-turn.ts";
import type { RedisWatch } from "../adapters/redis/redis-watch.ts";
import { workerName } from "../config.ts";
import type { Head } from "../core/contracts.ts";
import { FleetError, hasCode } from "../core/errors.ts";
import { DEFAULT_PACKING, type PackingLimits } from "../core/packing.ts";
import type { Embedder, ObjectStore } from "../core/ports.ts";
import { Heartbeat } from "../core/heartbeat.ts";
import { observeAll } from "../core/telemetry.ts";
import { Reconciler } from "../run/reconciler.ts";
import { mayEnd } from "../run/unfinished.ts";
import { ObservedStore } from "../telemetry/observed-store.ts";
import { WorkerTally } from "../telemetry/worker-tally.ts";
import {
  assertAddresses,
  Closer,
  type ModelSettings,
  modelOf,
  openQueueOf,
  openStoreOf,
  probeStoreOf,
  type QueueSettings,
  redisOf,
  type StoreSettings,
  watchRedisOf,
} from "./open-ports.ts";
import { type OptionName, withDefaults } from "./defaults.ts";
import { type MetricsSettings, openMetrics } from "./open-metrics.ts";

/** What `embedfleet work` takes as flags for one worker, under the same names; its `--help` says what each does. */
export interface WorkerSettings extends StoreSettings, QueueSettings, ModelSettings, MetricsSettings {
  readonly threads: number;
  readonly maxBatchTokens: number;
  readonly maxBatchRows: number;
  readonly maxBatchSeconds: number;
  readonly unsafeStore: boolean;
  readonly maxHeldBytes: number;
  readonly cacheFolder: string;
  /** End when the queue is empty and no corpus is being read; with `run_incomplete` when a run is not sealed then. */
  readonly exitWhenDone: boolean;
  readonly keepStaging: boolean;
  readonly lockSeconds: number;
  readonly tendSeconds: number;
}

/** Of the settings only `out` and `redis` must be given; the others are by default as on the command line. */
export interface StartWorkerParams extends Readonly<Partial<Omit<WorkerSettings, "out" | "redis">>> {
  /** The store: `file:///folder`, `s3://bucket/prefix` or a path. */
  readonly out: string;
  readonly redis: string;
  /** The first CUDA device where the runtime has one, else the CPU, by default. */
  readonly device?: Device | "auto";
  /** In logs, in `status` and in the files; unique in the fleet. Host and process by default. */
  readonly name?: string;
  /** Silent by default. */
  readonly log?: Logger;
}

/** A worker that has begun. */
export interface RunningWorker {
  readonly name: string;
  readonly model: string;
  readonly precision: Model["precision"];
  /** Its URL. */
  readonly store: string;
  /** As in `cpu` or `cuda:0`; after a fault of the device it may be another. */
  readonly device: string;
  /**
   * What it did, once it has ended and everything it opened is closed. Rejects with the fault that ended
   * it; after `inference_hung` a thread that cannot be ended is left, and with it a process that only a
   * SIGKILL ends.
   */
  readonly done: Promise<WorkerCounts>;
  /** Takes no more jobs, hands back those not begun, finishes the others; resolves when it has ended, however. */
  stop(): Promise<void>;
}

const WITH_DEFAULTS: readonly OptionName[] = [
  "model",
  "models",
  "precision",
  "s3TimeoutSeconds",
  "fleet",
  "allowVolatileRedis",
  "metricsHost",
  "threads",
  "maxBatchTokens",
  "maxBatchRows",
  "maxBatchSeconds",
  "unsafeStore",
  "maxHeldBytes",
  "cacheFolder",
  "exitWhenDone",
  "keepStaging",
  "lockSeconds",
  "tendSeconds",
];

/** Of a worker that is to end: less than the grace time of most machines. */
const REDIS_PATIENCE_MS = 10_000;

let started = 0;

/**
 * Starts a worker in this process: it takes jobs of its fleet and model until `stop()`, or until all is
 * done with `exitWhenDone`. Several may run, each with a thread for its model. No signal is handled here.
 *
 * @throws FleetError `bad_usage`, `model_invalid`, `store_refused`, and what the store and Redis say
 */
export async function startWorker(params: StartWorkerParams): Promise<RunningWorker> {
  const { device = "auto", name = newWorkerName(), log = pino({ level: "silent" }), ...given } = params;
  const settings = withDefaults<WorkerSettings>(given, WITH_DEFAULTS);
  const closer = new Closer();
  const giveUp = new AbortController();
  const place = { name, device: chooseDevice(device), log: log.child({ worker: name }), giveUp: giveUp.signal };
  const { worker, embedder, model, store, redisWatch } = await open(settings, place, closer).catch((error: unknown) =>
    fail(closer, error),
  );
  const done = worker
    .run()
    .catch((error: unknown) => {
      // Cut off from Redis it could not ask whether there is more to do; what it had begun is in the store.
      if (!giveUp.signal.aborted || error instanceof FleetError) throw error;
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

/** A worker that is to end does not wait for a Redis that does not come back: nothing it could say there is needed. */
async function leaveIfSilent(
  redisWatch: RedisWatch,
  ended: Promise<void>,
  giveUp: AbortController,
  log: Logger,
): Promise<void> {
  if (!(await redisWatch.fallsSilent({ patienceMs: REDIS_PATIENCE_MS, until: ended }))) return;
  log.warn("Redis does not answer: the worker ends without it, and jobs it still holds go to others in time");
  giveUp.abort();
}

async function fail(closer: Closer, error: unknown): Promise<never> {
  const closed = closer.close().catch(() => {});
  // A thread inside a native call can be neither terminated nor joined, so this would be waited for for ever.
  if (!hasCode(error, "inference_hung")) await closed;
  throw error;
}

async function open(
  settings: WorkerSettings,
  { name, device, log, giveUp }: Readonly<{ name: string; device: Device; log: Logger; giveUp: AbortSignal }>,
  closer: Closer,
): Promise<{ worker: FleetWorker; embedder: Embedder; model: Model; store: ObjectStore; redisWatch: RedisWatch }> {
  assertAddresses(settings);
  const model = await modelOf(settings, log);
  await openTokenizer(model, "passage");
  const tally = new WorkerTally({ name, model: model.manifest.id });
  const maxBatchMs = settings.maxBatchSeconds * 1000;
  const metrics = await openMetrics({ flags: settings, role: "worker", instance: name, maxBatchMs, closer, log });
  const observe = observeAll([tally.observe, metrics]);
  // Redis first: it answers or does not within seconds, and the folder of a store is waited for.
  const queue = await openQueueOf(settings, model.manifest.id, closer, log, giveUp);
  const redisWatch = watchRedisOf(settings, closer, log, observe);
  const store = new ObservedStore(await openStoreOf(settings, closer, { log }), observe);
  await probeStoreOf(store, settings, log);
  const redisUrl = redisOf(settings);
  const fleet = queueName(settings.fleet, model.manifest.id);
  const producers = closer.add(new Presence({ redisUrl, key: producersKey(fleet), giveUp }));
  const workers = closer.add(new Presence({ redisUrl, key: workersKey(fleet), giveUp }));
  const turn = closer.add(new RedisTurn({ redisUrl, key: turnKey(fleet), giveUp }));
  const { keepStaging, tendSeconds } = settings;
  const reconciler = closer.add(
    new Reconciler({ store, queue, turn, fleet, keepStaging, intervalMs: tendSeconds * 1000, log, observe }),
  );
  const heartbeat = new Heartbeat({ maxSilentMs: maxBatchMs });
  const opened = await openEmbedder({ ...settings, model, device, log, observe });
  const embedder = closer.add(new WatchedEmbedder({ embedder: opened.embedder, heartbeat }));
  const lockDurationMs = settings.lockSeconds * 1000;
  const leases = closer.add(
    new BullLeases({ redisUrl, name: fleet, workerId: name, lockDurationMs, heartbeat, log, observe, giveUp }),
  );
  /** Runs that this worker had jobs of. */
  const seen = new Set<string>();
  const worker = new FleetWorker({
    name,
    store,
    leases,
    embedder,
    sandbox: new SandboxEmbedder({ model, threads: settings.threads, maxBatchMs }),
    loader: loaderOf(store, model),
    packing: await packingOf(settings, model, { ...opened, embedder }, log),
    maxHeldBytes: settings.maxHeldBytes,
    log,
    observe,
    onIdle: async (runs) => {
      for (const run of runs) seen.add(run);
      // Whoever notices first that a run is complete seals it, and the others leave it that one's.
      // Reading a large run back takes minutes, and other runs' jobs may come meanwhile.
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

function loaderOf(store: ObjectStore, { ref, precision, manifest }: Model): Loader {
  const heads = Object.keys(manifest.heads) as Head[];
  return new Loader({ store, model: ref, precision, heads, vocabSize: manifest.architecture.vocabSize });
}

/** About a second, once: then the device's cost model is in the cache. */
const PROBE_MS = 1000;

async function packingOf(
  settings: WorkerSettings,
  model: Model,
  opened: OpenedEmbedder,
  log: Logger,
): Promise<PackingLimits> {
  const { maxBatchTokens, maxBatchRows, threads } = settings;
  const { embedder } = opened;
  const { dim, architecture } = model.manifest;
  const cost = await costOf({
    embedder,
    dim,
    heads: Object.keys(model.manifest.heads) as Head[],
    maxTokens: architecture.maxTokens,
    vocabSize: architecture.vocabSize,
    maxBatchTokens,
    budgetMs: PROBE_MS,
    cache: new CostCache(settings.cacheFolder),
    key: { modelSha256: model.ref.sha256, precision: model.precision, device: embedder.device, threads },
    log,
  });
  const paddedLength = (longest: number): number => embedder.paddedLength(longest);
  return {
    ...DEFAULT_PACKING,
    // Asked again for every plan: the device's memory may have turned out smaller.
    get maxBatchTokens() {
      return Math.min(maxBatchTokens, opened.maxBatchTokens());
    },
    maxBatchRows,
    cost,
    paddedLength,
  };
}

/** The first of a process has its plain name; two of the same name would take each other's leases. */
function newWorkerName(): string {
  started += 1;
  return started === 1 ? workerName() : `${workerName()}-${started}`;
}
