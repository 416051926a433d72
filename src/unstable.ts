/**
 * The parts that the library is made of: schemas, adapters and loops. Any release may change them, whatever its number.
 * They are for programs that put a worker or a producer together themselves.
 */
export { openTokenizer } from "../models/tokenizer/open-tokenizer.ts";
export { loadTokenizer } from "../models/tokenizer/native.ts";
export { Corpus, type CorpusParams } from "../producers/corpus.ts";
export { type ProduceParams, type ProduceProgress, produce } from "../producers/plan-corpus.ts";
export type { Listed } from "../producers/sources/objects.ts";
export { type EngineId, type Loaded, Loader, type Unneeded } from "../workers/loader.ts";
export type { Clock } from "./core/clock.ts";
export { FleetWorker } from "../workers/worker.ts";
export type { WorkerParams } from "../workers/worker-params.ts";
export { openQueue, type OpenQueueParams } from "./adapters/open-queue.ts";
export * from "./core/contracts.ts";
export * from "./core/selection.ts";
