/** A whole fleet in one process, on a real Redis and a folder store: what the benchmarks run. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setImmediate } from "node:timers/promises";
import { type Logger, pino } from "pino";
import { produce } from "../../producers/plan-corpus.ts";
import { openStore } from "../../src/adapters/open-store.ts";
import { BullLeases } from "../../src/adapters/redis/bull-leases.ts";
import { BullQueue } from "../../src/adapters/redis/bull-queue.ts";
import { PrivateRedis } from "../../src/adapters/redis/private-redis.ts";
import type { ClosedRecord, RunOptions } from "../../src/core/contracts.ts";
import type { SourceItem } from "../../src/core/documents.ts";
import { DEFAULT_PACKING, type PackingLimits } from "../../src/core/packing.ts";
import type { Embedder, ObjectStore, Tokenizer } from "../../src/core/ports.ts";
import { type Observe, unobserved } from "../../src/core/telemetry.ts";
import { openRun } from "../../src/run/open-run.ts";
import { Loader } from "../../workers/loader.ts";
import type { WorkerCounts } from "../../workers/batch-ledger.ts";
import { FleetWorker } from "../../workers/worker.ts";

export const QUEUE = "bench";
export const log: Logger = pino({ level: "silent" });

export interface Ground {
  readonly redis: PrivateRedis;
  readonly folder: string;
  close(): Promise<void>;
}

/** A Redis and a folder that are gone afterwards. */
export async function openGround(): Promise<Ground> {
  const folder = await mkdtemp(join(tmpdir(), "embedfleet-bench-"));
  const redis = await PrivateRedis.start();
  return {
    redis,
    folder,
    close: async () => {
      await redis.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** Plans and queues a run. */
export async function plan(
  params: Readonly<{
    store: ObjectStore;
    redisUrl: string;
    run: string;
    options: RunOptions;
    tokenizer: Tokenizer;
    items: AsyncIterable<SourceItem>;
  }>,
): Promise<ClosedRecord> {
  const { store, redisUrl, run, options, tokenizer, items } = params;
  const queue = new BullQueue({ redisUrl, name: QUEUE });
  try {
    const { record } = await openRun(store, { run, inputs: ["bench"], options, since: undefined });
    return await produce({ store, queue, tokenizer, record, items, maxRejects: null });
  } finally {
    await queue.close();
  }
}

/** Works until nothing is queued, or until `isOver` says so where jobs are still to come. */
export async function drain(
  params: Readonly<{
    store: ObjectStore;
    redisUrl: string;
    options: RunOptions;
    embedder: Embedder;
    vocabSize: number;
    worker?: string;
    packing?: PackingLimits;
    maxHeldBytes?: number;
    isOver?: () => boolean;
    observe?: Observe;
  }>,
): Promise<WorkerCounts> {
  const { store, redisUrl, options, embedder, vocabSize, isOver = () => true, observe = unobserved } = params;
  const { model, heads, precision } = options;
  const queue = new BullQueue({ redisUrl, name: QUEUE });
  const workerId = params.worker ?? "bench";
  const leases = new BullLeases({ redisUrl, name: QUEUE, workerId, lockDurationMs: 30_000, log });
  const worker = new FleetWorker({
    store,
    leases,
    embedder,
    sandbox: embedder,
    loader: new Loader({ store, model, precision, heads, vocabSize }),
    packing: params.packing ?? DEFAULT_PACKING,
    maxHeldBytes: params.maxHeldBytes ?? 1024 ** 3,
    log,
    observe,
    onIdle: async () => {
      const { waiting, active } = await queue.counts();
      return isOver() && waiting + active === 0;
    },
  });
  try {
    await worker.run();
    return worker.counts;
  } finally {
    await leases.close();
    await queue.close();
  }
}

export { openStore };

const NO_STARTS = new Uint32Array(0);

/**
 * Documents and a tokenizer that agree on lengths without tokenising anything: document `i` is said to
 * have `lengths[i]` tokens. For what has to be fed faster than text can be tokenised.
 */
export function madeCorpus(lengths: readonly number[]): { items: AsyncGenerator<SourceItem>; tokenizer: Tokenizer } {
  async function* items(): AsyncGenerator<SourceItem> {
    for (const [i, length] of lengths.entries())
      yield {
        kind: "document",
        document: { id: `d${i}`, text: String(length), origin: { file: "made", line: i + 1 } },
      };
  }
  const tokenizer: Tokenizer = {
    vocabSize: 1000,
    prefixIds: [0],
    suffixIds: [2],
    encode: async ({ texts, startsAbove = Infinity }) => {
      // A tokeniser works in threads, and others have their turn meanwhile: the worker of a process that does all.
      await setImmediate();
      return texts.map((text) => {
        const ids = new Int32Array(Math.max(1, Number(text) - 2)).fill(7);
        // The text has fewer characters than it is said to have tokens: the rest of them begin at its end.
        const starts = ids.length > startsAbove ? Uint32Array.from(ids, (_, i) => Math.min(i, text.length)) : NO_STARTS;
        return { ids, starts };
      });
    },
  };
  return { items: items(), tokenizer };
}
