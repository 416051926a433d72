/** What several calls open and must close again, in reverse order. Settings are named as the flags of the command line. */
import type { Logger } from "pino";
import { type Model, openModel, type PrecisionChoice } from "../../models/registry/open-model.ts";
import { assertModelCan, findModel } from "../../models/registry/registry.ts";
import { openStore } from "../adapters/open-store.ts";
import { BullQueue } from "../adapters/redis/bull-queue.ts";
import { checkRedis } from "../adapters/redis/connect.ts";
import { queueName } from "../adapters/redis/queue-options.ts";
import { RedisWatch } from "../adapters/redis/redis-watch.ts";
import { cacheFolder } from "../config.ts";
import type { Guards, Head, Limit, RunOptions, VectorType } from "../core/contracts.ts";
import type { Condition, Format, Selection } from "../core/selection.ts";
import { FleetError } from "../core/errors.ts";
import type { ObjectStore } from "../core/ports.ts";
import type { Observe } from "../core/telemetry.ts";
import { isEssential, type ProbeFailure, probeStore, whatIsLost } from "../run/probe-store.ts";

export interface StoreSettings {
  readonly out: string;
  readonly s3Endpoint?: string;
  readonly s3Region?: string;
  readonly s3TimeoutSeconds: number;
}

export interface ModelSettings {
  readonly model: string;
  /** Where pulled models lie. */
  readonly models: string;
  readonly precision: PrecisionChoice;
}

export interface QueueSettings {
  readonly redis?: string;
  readonly fleet: string;
  readonly allowVolatileRedis: boolean;
}

export interface PlanSettings {
  readonly heads: Head[];
  readonly dim?: number;
  readonly vectors: VectorType;
  readonly maxTokens: number;
  readonly chunking: RunOptions["chunking"];
  readonly chunkTokens?: number;
  readonly overlap: number;
  readonly idField: string;
  readonly textField: string[];
  readonly format: Format;
  readonly where: Condition[];
  readonly sample: number;
  readonly limit?: number;
  readonly keep: string[];
  readonly keepText: boolean;
  readonly dedupe: boolean;
  readonly maxDocumentBytes: number;
  readonly maxRejects: Limit;
  readonly maxDeletes: Limit;
  readonly strict: boolean;
}

/** Beyond these the run is held. */
export function guardsOf({ strict, maxRejects, maxDeletes }: PlanSettings): Guards {
  return { maxRejects: strict ? 0 : maxRejects, maxDeletes };
}

const DEFAULT_CHUNK_TOKENS = 512;

/** Closes what was opened, last first; the first failure is kept. */
export class Closer {
  readonly #steps: (() => Promise<unknown>)[] = [];

  add<T extends { close(): Promise<unknown> }>(resource: T): T {
    this.#steps.push(() => resource.close());
    return resource;
  }

  async close(): Promise<void> {
    let failure: unknown;
    for (let step = this.#steps.pop(); step !== undefined; step = this.#steps.pop()) {
      await step().catch((error: unknown) => (failure ??= error));
    }
    if (failure !== undefined) throw failure;
  }
}

/** Runs a body and closes whatever it opened, however it ends. */
export async function withCloser<T>(act: (closer: Closer) => Promise<T>): Promise<T> {
  const closer = new Closer();
  try {
    return await act(closer);
  } finally {
    await closer.close();
  }
}

/** @param options.makeRoot For the commands that begin a store; the others wait a while for its folder, and then it is a fault. */
export async function openStoreOf(
  flags: StoreSettings,
  closer: Closer,
  { makeRoot = false }: Readonly<{ makeRoot?: boolean }> = {},
): Promise<ObjectStore> {
  const { s3Endpoint: endpoint, s3Region: region, s3TimeoutSeconds } = flags;
  const s3 = { endpoint, region, idleTimeoutMs: s3TimeoutSeconds * 1000 };
  return closer.add(await openStore(flags.out, { s3, makeRoot }));
}

/** @throws FleetError `store_refused`, unless the user takes the risk, of which they are told. */
export async function probeStoreOf(
  store: ObjectStore,
  flags: { readonly unsafeStore: boolean },
  log: Logger,
): Promise<void> {
  const probe = (signal: AbortSignal): Promise<readonly ProbeFailure[]> =>
    probeStore(store, { allowUnsafe: flags.unsafeStore, signal });
  for (const failure of await endingLater(probe)) {
    const { property } = failure;
    log.warn(failure, `${isEssential(property) ? "--unsafe-store: " : ""}${whatIsLost(property)}`);
  }
}

/** A signal that would end this process at once lets it end first what it is told to by `signal`, and ends it then. */
async function endingLater<T>(act: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const told = new AbortController();
  const tell = (name: NodeJS.Signals): void => told.abort(name);
  // Whoever listens by himself decides by himself.
  const names = (["SIGTERM", "SIGINT"] as const).filter((name) => process.listenerCount(name) === 0);
  for (const name of names) process.once(name, tell);
  try {
    return await act(told.signal);
  } finally {
    for (const name of names) process.removeListener(name, tell);
    if (told.signal.aborted) process.kill(process.pid, told.signal.reason as NodeJS.Signals);
  }
}

/**
 * The model, its files held to their digests, with its notice said once.
 * @param asked What it must be able to do; refused before its files are read.
 */
export async function modelOf(
  flags: ModelSettings & Readonly<{ cacheFolder?: string }>,
  log: Logger,
  asked?: Readonly<{ heads: readonly Head[]; maxTokens: number; dim?: number }>,
): Promise<Model> {
  const found = findModel(flags.model, { modelsFolder: flags.models });
  if (asked !== undefined) assertModelCan(found, asked);
  const { id, notice } = found.manifest;
  if (notice !== null) log.warn({ model: id }, notice);
  return openModel(found, { precision: flags.precision, cacheFolder: flags.cacheFolder ?? cacheFolder() });
}

/** @throws FleetError `bad_usage` when no Redis was named. */
export function redisOf(flags: Pick<QueueSettings, "redis">): string {
  if (flags.redis !== undefined) return flags.redis;
  throw new FleetError("bad_usage", "no Redis was named", {
    cure: "pass --redis redis://host:port or set REDIS_URL; `embedfleet run` starts a private one by itself",
  });
}

/** The producer's end of the queue, on a Redis that is fit for it. */
export async function openQueueOf(
  flags: QueueSettings,
  modelId: string,
  closer: Closer,
  log: Logger,
  giveUp?: AbortSignal,
): Promise<BullQueue> {
  const redisUrl = redisOf(flags);
  for (const warning of await checkRedis(redisUrl, { allowVolatile: flags.allowVolatileRedis })) log.warn(warning);
  return closer.add(new BullQueue({ redisUrl, name: queueName(flags.fleet, modelId), giveUp }));
}

/** Says so, to the log and to the process's health, when Redis gives no answer, and when it does again. */
export function watchRedisOf(
  flags: Pick<QueueSettings, "redis">,
  closer: Closer,
  log: Logger,
  observe?: Observe,
): RedisWatch {
  return closer.add(new RedisWatch({ redisUrl: redisOf(flags), log, ...(observe && { observe }) }));
}

export function runOptionsOf(flags: PlanSettings, model: Model): RunOptions {
  return {
    model: { ...model.ref, dim: flags.dim ?? model.ref.dim },
    heads: flags.heads,
    precision: model.precision,
    vectors: flags.vectors,
    maxTokens: flags.maxTokens,
    chunking: flags.chunking,
    chunkTokens: chunkTokensOf(flags),
    overlap: flags.overlap,
    ...selectionOf(flags),
    keepText: flags.keepText,
    ...(flags.dedupe && { dedupe: true as const }),
    maxDocumentBytes: flags.maxDocumentBytes,
  };
}

/** @throws FleetError `bad_usage` */
function chunkTokensOf(flags: PlanSettings): number {
  const { chunking, maxTokens, chunkTokens } = flags;
  if (chunkTokens === undefined) return chunking === "document" ? maxTokens : Math.min(DEFAULT_CHUNK_TOKENS, maxTokens);
  if (chunking === "document" && chunkTokens !== maxTokens)
    throw new FleetError("bad_usage", "--chunk-tokens is of no use with --chunking document", {
      cure: "choose --chunking tokens, sentences, paragraphs or markdown; whole documents are cut at --max-tokens",
    });
  if (chunkTokens <= maxTokens) return chunkTokens;
  throw new FleetError("bad_usage", `--chunk-tokens ${chunkTokens} is above --max-tokens ${maxTokens}`, {
    cure: "a chunk is a row: make it shorter, or --max-tokens larger",
  });
}

export function selectionOf(flags: PlanSettings): Selection {
  return {
    format: flags.format,
    idField: flags.idField,
    textFields: flags.textField,
    where: flags.where,
    sample: flags.sample,
    limit: flags.limit ?? null,
    keep: [...new Set(flags.keep)],
  };
}
