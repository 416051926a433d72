/** Measures what batches cost on a device: once a model, precision, device and number of threads. */
import type { Logger } from "pino";
import type { CostCache, CostKey } from "../src/disk/cost-cache.ts";
import { allocateShard, type RowRef } from "../src/core/batch.ts";
import type { Head } from "../src/core/contracts.ts";
import {
  type BatchShape,
  type CostModel,
  type CostSample,
  fitCostModel,
  PRESUMED_COST,
} from "../src/core/cost-model.ts";
import { messageOf } from "../src/core/errors.ts";
import type { Embedder } from "../src/core/ports.ts";

/** Each shape runs twice: the first time a runtime may allocate, and choose kernels. */
const TIMES_EACH = 2;
/** Batch areas in tokens, from 64 to the largest batch, by factors of four; the longest rows first. */
const AREAS = [64, 256, 1024, 4096, 16_384];
const SHORTEST = 64;
/** Minimum cost: noise that hid a batch's own cost would make the packer cut one batch per length. */
const LEAST_BATCH_TOKENS = 16;

export interface ProbeParams {
  readonly embedder: Embedder;
  readonly dim: number;
  readonly heads: readonly Head[];
  readonly maxTokens: number;
  readonly vocabSize: number;
  readonly maxBatchTokens: number;
  /** Approximate time limit in milliseconds; a batch expected to exceed it is not tried. */
  readonly budgetMs: number;
}

/** The cached cost model, or else a measured one, which is then cached. A failing cache is only logged. */
export async function costOf(
  params: ProbeParams & Readonly<{ cache: CostCache; key: CostKey; log: Logger }>,
): Promise<CostModel> {
  const { cache, key, log } = params;
  const known = await cache.find(key);
  if (known !== null) return known;
  const samples = await probeCost(params);
  const fitted = fitCostModel(samples);
  if (fitted === null) return PRESUMED_COST;
  const cost = { ...fitted, batchMs: Math.max(fitted.batchMs, LEAST_BATCH_TOKENS * fitted.tokenMs) };
  log.info({ ...key, samples: samples.length, cost }, "the device was measured");
  await cache.save(key, cost).catch((error: unknown) => {
    log.warn(`the device's cost model cannot be cached, so each start measures it again: ${messageOf(error)}`);
  });
  return cost;
}

export async function probeCost(params: ProbeParams): Promise<CostSample[]> {
  const samples: CostSample[] = [];
  let leftMs = params.budgetMs;
  for (const shape of shapesOf(params)) {
    const last = samples.at(-1);
    const growth = last === undefined ? 0 : (shape.rows * shape.length) / (last.rows * last.length);
    // Attention may cost more than proportionally on longer rows; the factor allows for it.
    if (last !== undefined && last.ms * Math.max(growth, 1) * TIMES_EACH > leftMs) break;
    const ms: number[] = [];
    for (let time = 0; time < TIMES_EACH; time++) ms.push(await runOnce(params, shape));
    samples.push({ ...shape, ms: Math.min(...ms) });
    leftMs -= ms.reduce((sum, each) => sum + each, 0);
  }
  return samples;
}

function shapesOf({ maxTokens, maxBatchTokens }: ProbeParams): BatchShape[] {
  return AREAS.filter((area) => area <= Math.max(maxBatchTokens, SHORTEST)).flatMap((area) => {
    const lengths = new Set(
      [area, area / 4, SHORTEST].map((length) => Math.min(Math.max(length, SHORTEST), maxTokens)),
    );
    return [...lengths].map((length) => ({ rows: Math.max(1, Math.floor(area / length)), length }));
  });
}

async function runOnce(params: ProbeParams, { rows, length }: BatchShape): Promise<number> {
  const { embedder, dim, heads, vocabSize } = params;
  const shard = allocateShard({ lengths: new Uint32Array(rows).fill(length), dim, heads });
  // Any ids spread over the embedding table, as a text's are.
  for (let i = 0; i < shard.ids.length; i++) shard.ids[i] = (i * 7919) % vocabSize;
  const refs = Array.from({ length: rows }, (_, row): RowRef => ({ shard, row }));
  const { startedAtMs, finishedAtMs } = await embedder.embed({ rows: refs });
  return Math.max(finishedAtMs - startedAtMs, 0.001);
}
