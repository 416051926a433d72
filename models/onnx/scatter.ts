/**
 * Scatters the graph's padded outputs to a shard's buffers, by the rules of FlagEmbedding's BGE-M3
 * (`inference/embedder/encoder_only/m3.py`): one weight per distinct id, the largest, special ids
 * left out; ColBERT without `<s>` and padding, `</s>` kept.
 */
import { BROKEN, type RowRef, rowLength, type ShardBuffers, wants } from "../../src/core/batch.ts";
import type { Head } from "../../src/core/contracts.ts";
import { fromHalf } from "../../src/core/half.ts";
import type { OnnxManifest } from "../registry/manifest.ts";

/** Outputs of a session for one padded batch; half-precision floats as their bits. */
export interface BatchOutputs {
  /** Tokens of each row, padding included. */
  readonly longest: number;
  /** dense [batch, dim], sparse [batch, longest], colbert [batch, longest - 1, dim] */
  readonly heads: ReadonlyMap<Head, Float32Array | Uint16Array>;
}

/** Copies a batch's outputs to the places of its rows. Keeps its scratch memory between batches. */
export class Scatterer {
  readonly #sparse: SparseReducer;

  constructor({ architecture, heads }: OnnxManifest) {
    this.#sparse = new SparseReducer(architecture.vocabSize, heads.sparse?.nonLexicalIds ?? []);
  }

  /** Copies the outputs of all rows; a row with a non-finite value is marked broken. */
  scatter(rows: readonly RowRef[], { longest, heads }: BatchOutputs): void {
    for (const [head, values] of heads) {
      const output = values instanceof Uint16Array ? fromHalf(values) : values;
      const width = output.length / rows.length;
      rows.forEach((ref, index) => {
        const { shard, row } = ref;
        if (!wants(shard, head)) return;
        const start = index * width;
        if (head === "dense") scatterDense(output.subarray(start, start + width), shard, row);
        else if (head === "colbert") scatterColbert(output, index, longest, shard, row);
        else this.#sparse.scatter(output, index, longest, shard, row);
        const own = head === "dense" ? width : ownValues(head, ref);
        if (!isFiniteSpan(output, start, start + own)) shard.broken[row] = BROKEN.nonFinite;
      });
    }
  }
}

/** Number of values that belong to the row's own tokens; those of its padding follow them. */
function ownValues(head: "sparse" | "colbert", ref: RowRef): number {
  const tokens = rowLength(ref);
  return head === "sparse" ? tokens : (tokens - 1) * ref.shard.dim;
}

/** @param vector Of the model's width or more; a shard's may be narrower (Matryoshka). The row gets unit length. */
export function scatterDense(vector: Float32Array, shard: ShardBuffers, row: number): void {
  const { dim, dense } = shard;
  const target = dense!.subarray(row * dim, (row + 1) * dim);
  target.set(vector.subarray(0, dim));
  normalize(target);
}

export function normalize(vector: Float32Array): void {
  let squares = 0;
  for (const value of vector) squares += value * value;
  const norm = Math.max(Math.sqrt(squares), 1e-12);
  for (let i = 0; i < vector.length; i++) vector[i]! /= norm;
}

/** @param output [batch, longest - 1, dim]. @param index The row's place in the batch. */
export function scatterColbert(
  output: Float32Array,
  index: number,
  longest: number,
  shard: ShardBuffers,
  row: number,
): void {
  const { dim, colbert, offsets } = shard;
  const vectors = offsets[row + 1]! - offsets[row]! - 1;
  const start = index * (longest - 1) * dim;
  colbert!.set(output.subarray(start, start + vectors * dim), (offsets[row]! - row) * dim);
}

/** Reduces token weights to one weight per distinct id. Keeps its scratch memory between rows. */
export class SparseReducer {
  readonly #best: Float32Array;
  readonly #isLexical: Uint8Array;

  constructor(vocabSize: number, nonLexicalIds: readonly number[]) {
    this.#best = new Float32Array(vocabSize);
    this.#isLexical = new Uint8Array(vocabSize).fill(1);
    for (const id of nonLexicalIds) this.#isLexical[id] = 0;
  }

  /** @param output [batch, longest] */
  scatter(output: Float32Array, index: number, longest: number, shard: ShardBuffers, row: number): void {
    const { ids, offsets, sparseIndices, sparseValues, sparseCounts } = shard;
    const start = offsets[row]!;
    const tokens = offsets[row + 1]! - start;
    const indices = sparseIndices!.subarray(start, start + tokens);
    let count = 0;
    for (let token = 0; token < tokens; token++) {
      const weight = output[index * longest + token]!;
      const id = ids[start + token]!;
      if (!(weight > 0) || this.#isLexical[id] !== 1) continue;
      if (this.#best[id] === 0) indices[count++] = id;
      if (weight > this.#best[id]!) this.#best[id] = weight;
    }
    indices.subarray(0, count).sort();
    for (let i = 0; i < count; i++) {
      const id = indices[i]!;
      sparseValues![start + i] = this.#best[id]!;
      this.#best[id] = 0;
    }
    sparseCounts![row] = count;
  }
}

/** False when any value is NaN or infinite: either one makes every later sum non-finite. */
export function isFiniteSpan(values: Float32Array, start: number, end: number): boolean {
  let sum = 0;
  for (let i = start; i < end; i++) sum += Math.abs(values[i]!);
  return Number.isFinite(sum);
}
