/**
 * Measures a model's speed on a device over a grid of batch and row lengths. Rows are full, so real tokens equal padded
 * tokens; also the fraction of the device's matrix-multiplication peak that the model reaches.
 */
import { allocateShard, type RowRef } from "../../src/core/batch.ts";
import type { Head } from "../../src/core/contracts.ts";
import type { Embedder } from "../../src/core/ports.ts";
import type { ModelManifest } from "../registry/manifest.ts";

const GRID = { batches: [1, 8, 32, 128], lengths: [128, 512, 2048, 8192] } as const;
/** A cell that takes longer than this in its first run is not run again. */
const CELL_MS = 4000;
const MAX_RUNS = 50;

export interface Cell {
  readonly batch: number;
  readonly length: number;
  readonly runs: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly rowsPerSecond: number;
  readonly tokensPerSecond: number;
  /** Resident memory of the process, in bytes, after the cell. */
  readonly residentBytes: number;
  /** Fraction of the device's matrix peak; null where the model's arithmetic is unknown. */
  readonly peakShare: number | null;
}

export interface BenchModelParams {
  readonly embedder: Embedder;
  readonly manifest: ModelManifest;
  readonly heads: readonly Head[];
  /** Cells with a larger padded area are skipped. */
  readonly maxBatchTokens: number;
  /** Multiplications and additions a second that the device has shown, see `InferenceEngine.measurePeak`; null when it was not measured. */
  readonly peakFlops: number | null;
  /** Operations of the graph for one row of this many tokens; null when its arithmetic is unknown. */
  readonly rowFlops: (length: number) => number | null;
  readonly onCell?: (cell: Cell) => void;
}

/** @returns Cells in order of length, then batch. */
export async function benchModel(params: BenchModelParams): Promise<Cell[]> {
  const cells: Cell[] = [];
  for (const { batch, length } of gridOf(params)) {
    const cell = await benchCell(params, batch, length);
    cells.push(cell);
    params.onCell?.(cell);
  }
  return cells;
}

/** @returns The shapes that the model supports, in order of length, then batch. */
export function gridOf({
  manifest,
  maxBatchTokens,
}: Pick<BenchModelParams, "manifest" | "maxBatchTokens">): Pick<Cell, "batch" | "length">[] {
  const { maxTokens } = manifest.architecture;
  const lengths = GRID.lengths.filter((length) => length <= maxTokens);
  return (lengths.length > 0 ? lengths : [maxTokens]).flatMap((length) =>
    GRID.batches.filter((batch) => batch === 1 || batch * length <= maxBatchTokens).map((batch) => ({ batch, length })),
  );
}

async function benchCell(params: BenchModelParams, batch: number, length: number): Promise<Cell> {
  const { embedder, peakFlops, rowFlops } = params;
  const rows = fullRows(params, batch, length);
  const run = async (): Promise<number> => {
    const { startedAtMs, finishedAtMs } = await embedder.embed({ rows });
    return finishedAtMs - startedAtMs;
  };
  const first = await run();
  const times = first > CELL_MS ? [first] : [];
  const endMs = performance.now() + (first > CELL_MS ? 0 : CELL_MS);
  while (times.length === 0 || (times.length < MAX_RUNS && performance.now() < endMs)) times.push(await run());
  times.sort((a, b) => a - b);
  const p50Ms = quantile(times, 0.5);
  const flops = rowFlops(length);
  return {
    batch,
    length,
    runs: times.length,
    p50Ms,
    p99Ms: quantile(times, 0.99),
    rowsPerSecond: (batch * 1000) / p50Ms,
    tokensPerSecond: (batch * length * 1000) / p50Ms,
    residentBytes: process.memoryUsage().rss,
    peakShare: flops === null || peakFlops === null ? null : (batch * flops * 1000) / p50Ms / peakFlops,
  };
}

function quantile(sorted: readonly number[], share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]!;
}

/** A batch without padding. */
export function fullRows(
  { manifest, heads }: Pick<BenchModelParams, "manifest" | "heads">,
  batch: number,
  length: number,
): RowRef[] {
  const { vocabSize } = manifest.architecture;
  const shard = allocateShard({
    lengths: Array.from({ length: batch }, () => length),
    dim: manifest.dim,
    heads,
  });
  for (let i = 0; i < shard.ids.length; i++) shard.ids[i] = 4 + ((i * 7919) % (vocabSize - 4));
  return Array.from({ length: batch }, (_, row) => ({ shard, row }));
}

/**
 * Operations of an encoder's layers for one row: two per weight and token in the linear layers, and
 * attention's two products of the whole row with itself.
 */
export function encoderFlops(
  shape: Readonly<{ layers: number; hiddenSize: number; intermediateSize: number }>,
  length: number,
): number {
  const { layers, hiddenSize, intermediateSize } = shape;
  const weights = 4 * hiddenSize * hiddenSize + 2 * hiddenSize * intermediateSize;
  return layers * (2 * weights * length + 4 * hiddenSize * length * length);
}
