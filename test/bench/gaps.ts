/** What a device waits between two full batches: one thread that does everything, beside the embedder's threads. */
import { openMini } from "../fixtures/mini.ts";
import { sessionParams, ThreadEmbedder } from "../../models/onnx/thread-embedder.ts";
import { ModelSession } from "../../models/onnx/session.ts";
import { allocateShard, type BatchReport, type RowRef, type ShardBuffers } from "../../src/core/batch.ts";
import type { Head } from "../../src/core/contracts.ts";
import { median } from "./bench.ts";

const ROWS = 32;
const TOKENS = 512;
const IN_FLIGHT = 3;
const ID_COUNT = 19_000;

export interface Gaps {
  readonly heads: readonly Head[];
  readonly oneThreadMs: number;
  readonly embedderMs: number;
}

/** Of the batches that others follow; the first ones warm up. One core runs the model, so that another one is free, as beside a GPU. */
export async function measureGaps(
  headSets: readonly (readonly Head[])[],
  params: Readonly<{ rounds: number; batches: number }>,
): Promise<Gaps[]> {
  const model = await openMini();
  const threads = 1;
  const session = await ModelSession.open(sessionParams({ model, threads }));
  const embedder = await ThreadEmbedder.open({ model, threads });
  const found: Gaps[] = [];
  try {
    for (const heads of headSets) {
      const shards = Array.from({ length: IN_FLIGHT }, () => fullShard(heads, model.manifest.dim));
      const oneThread: number[] = [];
      const pipelined: number[] = [];
      for (let round = 0; round <= params.rounds; round++) {
        const alone = await run(params.batches, shards.slice(0, 1), (rows) => session.run(rows));
        const ahead = await run(params.batches, shards, (rows) => embedder.embed({ rows }));
        if (round === 0) continue;
        oneThread.push(...gapsOf(alone));
        pipelined.push(...gapsOf(ahead));
      }
      found.push({ heads, oneThreadMs: median(oneThread), embedderMs: median(pipelined) });
    }
  } finally {
    await embedder.close();
  }
  return found;
}

/** Each shard has one batch in flight at a time. */
async function run(
  batches: number,
  shards: readonly ShardBuffers[],
  embed: (rows: readonly RowRef[]) => Promise<BatchReport>,
): Promise<BatchReport[]> {
  const reports: BatchReport[] = [];
  let begun = 0;
  const loop = async (shard: ShardBuffers): Promise<void> => {
    while (begun++ < batches) reports.push(await embed(Array.from({ length: ROWS }, (_, row) => ({ shard, row }))));
  };
  await Promise.all(shards.map(loop));
  return reports.toSorted((a, b) => a.startedAtMs - b.startedAtMs);
}

function gapsOf(reports: readonly BatchReport[]): number[] {
  return reports.slice(1).map(({ startedAtMs }, i) => startedAtMs - reports[i]!.finishedAtMs);
}

function fullShard(heads: readonly Head[], dim: number): ShardBuffers {
  const shard = allocateShard({ lengths: Array.from({ length: ROWS }, () => TOKENS), dim, heads });
  for (let i = 0; i < shard.ids.length; i++) shard.ids[i] = i % TOKENS === 0 ? 0 : 5 + ((i * 7919) % ID_COUNT);
  return shard;
}
