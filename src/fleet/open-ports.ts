/** Opens the ports that several calls need, and closes them in reverse order. */
import type { Logger } from "pino";
import { chooseEngine } from "../../models/choose-engine.ts";
import { assertOffersHeads, type InferenceEngine, offeredPrecision } from "../../models/engine.ts";
import { type Model, openModel } from "../../models/registry/open-model.ts";
import { promptOf } from "../../models/registry/prompts.ts";
import { assertModelCan, findModel, type FoundModel, namesake } from "../../models/registry/registry.ts";
import { assertQueueUrl, openQueue } from "../adapters/open-queue.ts";
import { assertStoreUrl, openStore } from "../adapters/open-store.ts";
import type { RootWait } from "../adapters/file/file-root.ts";
import type { Guards, Head, RunOptions } from "../core/contracts.ts";
import type { Selection } from "../core/selection.ts";
import { FleetError } from "../core/errors.ts";
import type { ObjectStore } from "../core/ports.ts";
import type { ModelQueue, QueueServer, ShardQueue, StoreQueues } from "../core/queue-server.ts";
import { isEssential, type ProbeFailure, probeStore, whatIsLost } from "../run/probe-store.ts";
import { ensureStoreId } from "../run/store-id.ts";
import type { ModelSettings, PlanSettings, QueueSettings, StoreSettings } from "./settings.ts";

/** The limits beyond which a run with these settings is held. */
export function guardsOf({ strict, maxRejects, maxDeletes }: PlanSettings): Guards {
  return { maxRejects: strict ? 0 : maxRejects, maxDeletes };
}

const DEFAULT_CHUNK_TOKENS = 512;

/** Closes what was opened, last first, and throws the first error. */
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

/** Runs a body and closes everything it opened, on success and failure. */
export async function withCloser<T>(act: (closer: Closer) => Promise<T>): Promise<T> {
  const closer = new Closer();
  try {
    return await act(closer);
  } finally {
    await closer.close();
  }
}

/**
 * Refuses invalid addresses before anything is read or awaited; reachability is found out later.
 * @throws FleetError `bad_usage`
 */
export function assertAddresses({ out, redis }: Readonly<{ out: string; redis?: string | undefined }>): void {
  assertStoreUrl(out);
  if (redis !== undefined) assertQueueUrl(redis);
}

/**
 * @param options.makeRoot True for commands that create a store; others wait for its folder, and then fail.
 * @param options.log Logs that wait.
 */
export async function openStoreOf(
  settings: StoreSettings,
  closer: Closer,
  { makeRoot = false, log }: Readonly<{ makeRoot?: boolean; log?: Logger }> = {},
): Promise<ObjectStore> {
  const { s3Endpoint: endpoint, s3Region: region, s3TimeoutSeconds } = settings;
  const s3 = { endpoint, region, idleTimeoutMs: s3TimeoutSeconds * 1000 };
  const onWait = ({ path, waitMs }: RootWait): void =>
    log?.warn(
      { folder: path, waitSeconds: waitMs / 1000 },
      "the store's folder is not there: waiting for it to appear",
    );
  return closer.add(await openStore(settings.out, { s3, makeRoot, onWait }));
}

/** @throws FleetError `store_refused`, unless the user accepts the risk, which is logged. */
export async function probeStoreOf(
  store: ObjectStore,
  settings: { readonly unsafeStore: boolean },
  log: Logger,
): Promise<void> {
  const probe = (signal: AbortSignal): Promise<readonly ProbeFailure[]> =>
    probeStore(store, { allowUnsafe: settings.unsafeStore, signal });
  for (const failure of await endingLater(probe)) {
    const { property } = failure;
    log.warn(failure, `${isEssential(property) ? "--unsafe-store: " : ""}${whatIsLost(property)}`);
  }
}

/** Delays SIGTERM and SIGINT until `act`, whose `signal` they abort, has ended; then they end this process. */
async function endingLater<T>(act: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const told = new AbortController();
  const tell = (name: NodeJS.Signals): void => told.abort(name);
  // A process with listeners of its own handles the signal itself.
  const names = (["SIGTERM", "SIGINT"] as const).filter((name) => process.listenerCount(name) === 0);
  for (const name of names) process.once(name, tell);
  try {
    return await act(told.signal);
  } finally {
    for (const name of names) process.removeListener(name, tell);
    if (told.signal.aborted) process.kill(process.pid, told.signal.reason as NodeJS.Signals);
  }
}

/** Most tokens of a row by default. */
const DEFAULT_MAX_TOKENS = 8192;

/** What a plan asks of its model. */
export type Asked = Readonly<{
  heads?: readonly Head[] | undefined;
  maxTokens?: number | undefined;
  dim?: number | undefined;
  prompt?: string | undefined;
}>;

/**
 * Opens the model, checks its files against their digests, and logs its notice once.
 * @param asked Capabilities that it must have; refused before its files are read.
 */
export async function modelOf(settings: ModelSettings, log: Logger, asked?: Asked): Promise<Model> {
  const found = findModel(settings.model, { modelsFolder: settings.models });
  const engine = chooseEngine(settings.engine, found.manifest);
  if (asked !== undefined) {
    assertModelCan(found, asked);
    if (asked.heads !== undefined) assertOffersHeads(engine, found.manifest, asked.heads);
    promptOf(found.manifest, "passage", asked.prompt);
  }
  const precision = offeredPrecision(engine, found.manifest, settings.precision);
  const { id, notice } = found.manifest;
  if (notice !== null) log.warn({ model: id }, notice);
  for (const note of notesOf(settings.model, found, asked)) log.warn({ model: id }, note);
  return openModel(found, { precision, cacheFolder: settings.cacheFolder });
}

/** What a person should know about the choice of a model and of its width, one sentence each. */
function notesOf(name: string, { manifest, isDerived = false }: FoundModel, asked: Asked = {}): string[] {
  const { id, dim, truncateDims } = manifest;
  const hidden = namesake(name);
  const isCut = isDerived && truncateDims === undefined && (asked.dim ?? dim) < dim;
  return [
    ...(hidden === null ? [] : [`${name} is the model of that name; the folder of that name is --model ${hidden}`]),
    ...(isCut
      ? [
          `nothing in the folder of model ${id} says that its vectors may be cut: --dim is of use only if it was trained for it (Matryoshka)`,
        ]
      : []),
  ];
}

/**
 * Refuses what the model's files show before a corpus is read.
 * @throws FleetError `model_invalid`
 */
export function inspectModel(
  settings: Pick<ModelSettings, "engine"> & Pick<PlanSettings, "allowBatchDependent">,
  model: Model,
  log: Logger,
): void {
  const { manifest, precision } = model;
  const engine = chooseEngine(settings.engine, manifest);
  const { batchDependence = null } = engine.inspect?.(model) ?? {};
  if (batchDependence === null) return;
  const message = `the ${precision} vectors of model ${manifest.id} depend on the rows that share a batch: ${batchDependence}`;
  if (settings.allowBatchDependent) return log.warn({ model: manifest.id }, message);
  const others = engine.offers(manifest).precisions.filter((each) => each !== precision);
  const other = others.length === 0 ? "" : `use --precision ${others.join(" or ")}; or `;
  throw new FleetError("model_invalid", `${message}, so a retry changes them`, {
    cure: `${other}quantise it with one scale per token: embedfleet models export; or accept it with --allow-batch-dependent`,
  });
}

/** The engine that computes the model. @throws FleetError `model_unknown`, `model_invalid`; `bad_usage` */
export function engineOf(settings: Pick<ModelSettings, "model" | "models" | "engine">): InferenceEngine {
  return chooseEngine(settings.engine, findModel(settings.model, { modelsFolder: settings.models }).manifest);
}

/** The Redis address. @throws FleetError `bad_usage` when none was passed. */
export function redisOf(settings: Pick<QueueSettings, "redis">): string {
  if (settings.redis !== undefined) return settings.redis;
  throw new FleetError("bad_usage", "no Redis server was given", {
    cure: "pass --redis redis://host:port or set REDIS_URL; `embedfleet run` starts a private one",
  });
}

/**
 * The fleet's queues, without a request to their server yet.
 * @param giveUp Aborts the wait for the server.
 */
export function queueServerOf(
  flags: Pick<QueueSettings, "redis" | "fleet">,
  log: Logger,
  giveUp?: AbortSignal,
): QueueServer {
  return openQueue({ url: redisOf(flags), fleet: flags.fleet, log, giveUp });
}

/** As `queueServerOf`, once the server has passed the checks for a queue; its warnings are logged. */
export async function checkedServerOf(flags: QueueSettings, log: Logger, giveUp?: AbortSignal): Promise<QueueServer> {
  const server = queueServerOf(flags, log, giveUp);
  await checkServer(server, flags, log);
  return server;
}

/** Checks that the server is fit for a queue and logs warnings. @throws FleetError when it is not. */
export async function checkServer(
  server: QueueServer,
  flags: Pick<QueueSettings, "allowVolatileRedis">,
  log: Logger,
): Promise<void> {
  for (const warning of await server.check({ allowVolatile: flags.allowVolatileRedis })) log.warn(warning);
}

/** A model's queue of one store, on a server that is fit for it. */
export interface OpenedQueue {
  readonly server: QueueServer;
  readonly queues: StoreQueues;
  readonly ofModel: ModelQueue;
  readonly queue: ShardQueue;
}

export async function openQueueOf(
  settings: QueueSettings,
  { store, model }: Readonly<{ store: ObjectStore; model: string }>,
  closer: Closer,
  log: Logger,
): Promise<OpenedQueue> {
  const server = await checkedServerOf(settings, log);
  return { server, ...(await openQueuesOn(server, { store, model }, closer)) };
}

/** As `openQueueOf`, on a server that has been checked. Gives the store its identity if it has none. */
export async function openQueuesOn(
  server: QueueServer,
  { store, model }: Readonly<{ store: ObjectStore; model: string }>,
  closer: Closer,
): Promise<Omit<OpenedQueue, "server">> {
  const queues = server.ofStore(await ensureStoreId(store));
  const ofModel = queues.ofModel(model);
  return { queues, ofModel, queue: closer.add(ofModel.shards()) };
}

export function runOptionsOf(settings: PlanSettings & Pick<ModelSettings, "engine">, model: Model): RunOptions {
  const { manifest, ref } = model;
  const engine = chooseEngine(settings.engine, manifest);
  const maxTokens = settings.maxTokens ?? Math.min(DEFAULT_MAX_TOKENS, ref.maxTokens);
  const prompt = promptOf(manifest, "passage", settings.prompt);
  return {
    model: { ...ref, dim: settings.dim ?? ref.dim },
    heads: settings.heads ?? [...engine.offers(manifest).heads],
    precision: model.precision,
    engine: engine.name,
    vectors: settings.vectors,
    ...(prompt !== "" && { prompt }),
    maxTokens,
    chunking: settings.chunking,
    chunkTokens: chunkTokensOf({ ...settings, maxTokens }),
    overlap: settings.overlap,
    ...selectionOf(settings),
    keepText: settings.keepText,
    ...(settings.dedupe && { dedupe: true as const }),
    maxDocumentBytes: settings.maxDocumentBytes,
  };
}

/** Tokens per chunk. @throws FleetError `bad_usage` */
function chunkTokensOf(settings: PlanSettings & Readonly<{ maxTokens: number }>): number {
  const { chunking, maxTokens, chunkTokens } = settings;
  if (chunkTokens === undefined) return chunking === "document" ? maxTokens : Math.min(DEFAULT_CHUNK_TOKENS, maxTokens);
  if (chunking === "document" && chunkTokens !== maxTokens)
    throw new FleetError("bad_usage", "--chunk-tokens has no effect with --chunking document", {
      cure: "choose --chunking tokens, sentences, paragraphs or markdown; whole documents are cut at --max-tokens",
    });
  if (chunkTokens <= maxTokens) return chunkTokens;
  throw new FleetError("bad_usage", `--chunk-tokens ${chunkTokens} is above --max-tokens ${maxTokens}`, {
    cure: "a chunk is a row: make it shorter, or --max-tokens larger",
  });
}

export function selectionOf(settings: PlanSettings): Selection {
  return {
    format: settings.format,
    idField: settings.idField,
    textFields: settings.textField,
    where: settings.where,
    sample: settings.sample,
    limit: settings.limit ?? null,
    keep: [...new Set(settings.keep)],
    ...tableOf(settings),
    ...(settings.generateId !== undefined && { generateId: settings.generateId }),
    // Runs of earlier versions do not record the default.
    ...(settings.clean !== "nul" && { clean: settings.clean }),
  };
}

/** How CSV and TSV are written, where it differs from the default. @throws FleetError `bad_usage` */
function tableOf({ delimiter, quote, escape, noHeader, columns }: PlanSettings): Partial<Selection> {
  if (noHeader && columns === undefined)
    throw new FleetError("bad_usage", "--no-header is set, and the columns have no names", {
      cure: "name all of them in order: --columns id,title,text",
    });
  if (!noHeader && columns !== undefined)
    throw new FleetError("bad_usage", "--columns has no effect where the first line names the columns", {
      cure: "set --no-header if the first line is data, or leave --columns out",
    });
  const marks = [delimiter, quote, escape].filter((mark) => mark !== undefined);
  if (marks.length > new Set(marks).size && !(quote === escape && delimiter !== quote))
    throw new FleetError("bad_usage", "--delimiter, --quote and --escape must be different characters", {
      cure: "leave out those that the file does not use",
    });
  return {
    ...(delimiter !== undefined && { delimiter }),
    ...(quote !== undefined && { quote }),
    ...(escape !== undefined && { escape }),
    ...(columns !== undefined && { columns }),
  };
}
