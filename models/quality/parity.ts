/** Checks a model's vectors against PyTorch's, its own in other batches, and BGE-M3's published scores. */
import { allocateShard, type ShardBuffers } from "../../src/core/batch.ts";
import type { Head } from "../../src/core/contracts.ts";
import type { Embedder } from "../../src/core/ports.ts";
import type { Reference, ReferenceRow } from "./reference.ts";

export interface HeadParity {
  readonly head: Head;
  readonly cosineMin: number;
  readonly cosineMean: number;
  readonly maxAbsError: number;
  /** Share of each text's ten nearest that are kept; null for ColBERT, as the reference has only some vectors. */
  readonly top10Overlap: number | null;
  /** Minimum cosine of a row in a batch with all others to the same row alone. */
  readonly batchedCosineMin: number;
  readonly passes: boolean;
}

export interface ParityParams {
  readonly embedder: Embedder;
  readonly reference: Reference;
  readonly heads: readonly Head[];
  /** Minimum mean cosine to PyTorch's float32, and minimum cosine of a row in a batch to the same row alone. */
  readonly minCosine: number;
}

/** Computes every text of the reference alone and all in one batch. */
export async function checkParity(params: ParityParams): Promise<HeadParity[]> {
  const { embedder, reference, minCosine } = params;
  const heads = params.heads.filter((head) => reference.rows.every((row) => row[head] !== undefined));
  const lengths = reference.rows.map(({ ids }) => ids.length);
  const [alone, batched] = [0, 1].map(() => {
    const shard = allocateShard({ lengths, dim: reference.dim, heads });
    shard.ids.set(reference.rows.flatMap(({ ids }) => ids));
    return shard;
  }) as [ShardBuffers, ShardBuffers];
  for (const row of lengths.keys()) await embedder.embed({ rows: [{ shard: alone, row }] });
  await embedder.embed({ rows: Array.from(lengths.keys(), (row) => ({ shard: batched, row })) });
  return heads.map((head) => {
    const found = reference.rows.map((row, i) => vectorOf(head, alone, i, row));
    const together = reference.rows.map((row, i) => vectorOf(head, batched, i, row));
    const wanted = reference.rows.map((row) => wantedOf(head, row));
    const cosines = found.map((vector, i) => cosine(vector, wanted[i]!));
    const cosineMean = cosines.reduce((sum, value) => sum + value, 0) / cosines.length;
    const batchedCosineMin = Math.min(...found.map((vector, i) => cosine(vector, together[i]!)));
    return {
      head,
      cosineMin: Math.min(...cosines),
      cosineMean,
      maxAbsError: Math.max(...found.map((vector, i) => maxAbsError(vector, wanted[i]!))),
      top10Overlap: head === "colbert" ? null : top10Overlap(found, wanted),
      batchedCosineMin,
      passes: cosineMean >= minCosine && batchedCosineMin >= minCosine,
    };
  });
}

/** A vector of any head, including sparse ones, as values by index. */
type AnyVector = ReadonlyMap<number, number>;

function vectorOf(head: Head, shard: ShardBuffers, row: number, { colbert }: ReferenceRow): AnyVector {
  const { dim, offsets } = shard;
  const start = offsets[row]!;
  if (head === "dense") return dense(shard.dense!.subarray(row * dim, (row + 1) * dim));
  if (head === "sparse") {
    const count = shard.sparseCounts![row]!;
    const values = shard.sparseValues!.subarray(start, start + count);
    return new Map(Array.from(values, (value, i) => [shard.sparseIndices![start + i]!, value]));
  }
  return dense(
    Float32Array.from(
      colbert!.rows.flatMap((vector) => {
        const at = (start - row + vector) * dim;
        return [...shard.colbert!.subarray(at, at + dim)];
      }),
    ),
  );
}

function wantedOf(head: Head, { dense: vector, sparse, colbert }: ReferenceRow): AnyVector {
  if (head === "dense") return dense(vector);
  if (head === "colbert") return dense(colbert!.vectors);
  return new Map(sparse!.indices.map((index, i) => [index, sparse!.values[i]!]));
}

function dense(values: Float32Array): AnyVector {
  return new Map(values.entries());
}

function dot(a: AnyVector, b: AnyVector): number {
  let sum = 0;
  for (const [index, value] of a) sum += value * (b.get(index) ?? 0);
  return sum;
}

/** Cosine similarity; 1 for two empty vectors, 0 for an empty and another one. */
function cosine(a: AnyVector, b: AnyVector): number {
  if (a.size === 0 && b.size === 0) return 1;
  return dot(a, b) / Math.max(Math.sqrt(dot(a, a) * dot(b, b)), 1e-12);
}

function maxAbsError(a: AnyVector, b: AnyVector): number {
  let worst = 0;
  for (const index of new Set([...a.keys(), ...b.keys()]))
    worst = Math.max(worst, Math.abs((a.get(index) ?? 0) - (b.get(index) ?? 0)));
  return worst;
}

function top10Overlap(found: readonly AnyVector[], wanted: readonly AnyVector[]): number {
  const shares = wanted.map((_, i) => {
    const expected = nearest(wanted, i);
    const kept = nearest(found, i).filter((other) => expected.includes(other)).length;
    return kept / expected.length;
  });
  return shares.reduce((sum, share) => sum + share, 0) / shares.length;
}

function nearest(vectors: readonly AnyVector[], of: number): number[] {
  return Array.from(vectors.keys())
    .filter((other) => other !== of)
    .map((other) => [other, dot(vectors[of]!, vectors[other]!)] as const)
    .toSorted(([, a], [, b]) => b - a)
    .slice(0, 10)
    .map(([other]) => other);
}
