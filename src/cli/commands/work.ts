/** `embedfleet work`: one worker, or several in processes of their own. */
import type { Logger } from "pino";
import { openTokenizer } from "../../../models/model-tokenizer.ts";
import { type OpenedEmbedder, openEmbedder } from "../../../models/open-embedder.ts";
import type { Model } from "../../../models/open-model.ts";
import { SandboxEmbedder } from "../../../models/sandbox.ts";
import { costOf } from "../../../workers/probe-cost.ts";
import { Loader } from "../../../workers/loader.ts";
import { WatchedEmbedder } from "../../../workers/watched-embedder.ts";
import { FleetWorker } from "../../../workers/worker.ts";
import { CostCache } from "../../adapters/cost-cache.ts";
import { BullLeases } from "../../adapters/redis/bull-leases.ts";
import { Presence } from "../../adapters/redis/presence.ts";
import { RedisTurn } from "../../adapters/redis/redis-turn.ts";
import { producersKey, queueName, turnKey, workersKey } from "../../adapters/redis/queue-options.ts";
import { workerName } from "../../config.ts";
import { DEFAULT_PACKING, type PackingLimits } from "../../core/packing.ts";
import { hasCode } from "../../core/errors.ts";
import type { Head } from "../../core/contracts.ts";
import type { ObjectStore } from "../../core/ports.ts";
import { Pulse } from "../../core/pulse.ts";
import { observeAll } from "../../core/telemetry.ts";
import { Tender } from "../../run/tend.ts";
import { reportFailure } from "../errors.ts";
import {
  loggerOf,
  modelOf,
  openQueueOf,
  openStoreOf,
  printJson,
  probeStoreOf,
  redisOf,
  withCloser,
} from "../context.ts";
import { ObservedStore } from "../../telemetry/observed-store.ts";
import { WorkerTally } from "../../telemetry/worker-tally.ts";
import { openMetrics } from "../telemetry.ts";
import { placesOf, superviseWorkers, type WorkerPlace, type WorkFlags } from "../worker-processes.ts";

export async function work(flags: WorkFlags): Promise<void> {
  const [first, ...others] = placesOf(flags);
  if (others.length === 0) return workAt(first!, flags);
  const log = loggerOf(flags);
  const model = await modelOf(flags, log);
  redisOf(flags);
  const { logLevel, metricsPort: firstMetricsPort = null } = flags;
  const supervisor = superviseWorkers({ flags, model, places: [first!, ...others], logLevel, firstMetricsPort, log });
  const stop = (): void => void supervisor.stop();
  process.once("SIGTERM", stop).once("SIGINT", stop);
  supervisor.start();
  await supervisor.ended().finally(() => supervisor.stop());
}

async function workAt({ device, threads }: WorkerPlace, given: WorkFlags): Promise<void> {
  const flags = { ...given, threads };
  await withCloser(async (closer) => {
    const name = workerName();
    const log = loggerOf(flags).child({ worker: name });
    const model = await modelOf(flags, log);
    await openTokenizer(model, "passage");
    const tally = new WorkerTally({ name, model: model.manifest.id });
    const observe = observeAll([
      tally.observe,
      await openMetrics({ flags, role: "worker", instance: name, closer, log }),
    ]);
    const store = new ObservedStore(await openStoreOf(flags, closer), observe);
    await probeStoreOf(store, flags, log);
    const queue = await openQueueOf(flags, model.manifest.id, closer, log);
    const redisUrl = redisOf(flags);
    const fleet = queueName(flags.fleet, model.manifest.id);
    const producers = closer.add(new Presence({ redisUrl, key: producersKey(fleet) }));
    const workers = closer.add(new Presence({ redisUrl, key: workersKey(fleet) }));
    const turn = closer.add(new RedisTurn({ redisUrl, key: turnKey(fleet) }));
    const tender = closer.add(
      new Tender({
        store,
        queue,
        turn,
        fleet,
        keepStaging: flags.keepStaging,
        intervalMs: flags.tendSeconds * 1000,
        log,
        observe,
      }),
    );
    const maxBatchMs = flags.maxBatchSeconds * 1000;
    const pulse = new Pulse({ maxSilentMs: maxBatchMs });
    const opened = await openEmbedder({ ...flags, model, device, log, observe });
    const embedder = closer.add(new WatchedEmbedder({ embedder: opened.embedder, pulse }));
    const lockDurationMs = flags.lockSeconds * 1000;
    const leases = closer.add(
      new BullLeases({ redisUrl, name: fleet, workerId: name, lockDurationMs, pulse, log, observe }),
    );

    const worker = new FleetWorker({
      name,
      store,
      leases,
      embedder,
      sandbox: new SandboxEmbedder({ model, threads: flags.threads, maxBatchMs }),
      loader: loaderOf(store, model),
      packing: await packingOf(flags, model, { ...opened, embedder }, log).catch(endIfHung),
      maxHeldBytes: flags.maxHeldBytes,
      log,
      observe,
      onIdle: async (runs) => {
        // Whoever notices first that a run is complete seals it; a race has one winner and no loser.
        if (runs.size > 0) await tender.tend();
        if (!flags.exitWhenDone || (await producers.present()).length > 0) return false;
        const { waiting, active } = await queue.counts();
        // An empty queue may also be a wiped one: the store has the last word.
        return waiting + active === 0 && (await tender.tend()) === 0;
      },
    });
    const stop = (): void => void worker.stop();
    process.once("SIGTERM", stop).once("SIGINT", stop);
    await workers.announce(name, () => tally.state(embedder.device));
    tender.start();
    const { precision } = model;
    const what = { device: embedder.device, model: model.manifest.id, precision, threads: flags.threads };
    log.info({ ...what, store: store.url }, "the worker is ready");
    await worker.run().catch(endIfHung);
    log.info(worker.counts, "the worker ends");
    if (flags.json) printJson({ worker: name, device: embedder.device, ...worker.counts });
  });
}

function loaderOf(store: ObjectStore, { ref, precision, manifest }: Model): Loader {
  const heads = Object.keys(manifest.heads) as Head[];
  return new Loader({ store, model: ref, precision, heads, vocabSize: manifest.architecture.vocabSize });
}

/** About a second, once: then the device's cost model is in the cache. */
const PROBE_MS = 1000;

async function packingOf(flags: WorkFlags, model: Model, opened: OpenedEmbedder, log: Logger): Promise<PackingLimits> {
  const { maxBatchTokens, maxBatchRows, threads } = flags;
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
    cache: new CostCache(flags.cacheFolder),
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

/** A thread inside a native call can be neither terminated nor joined, so an ordinary exit would wait for it for ever. */
function endIfHung(error: unknown): never {
  if (!hasCode(error, "inference_hung")) throw error;
  reportFailure(error);
  process.kill(process.pid, "SIGKILL");
  throw error;
}
