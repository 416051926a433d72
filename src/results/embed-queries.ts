/** Embeds queries by the same path as documents. */
import { encodeRows } from "../../models/tokenizer/encode-prompted.ts";
import { allocateShard, type ShardBuffers } from "../core/batch.ts";
import type { RunOptions } from "../core/contracts.ts";
import { FleetError } from "../core/errors.ts";
import type { Embedder, Tokenizer } from "../core/ports.ts";
import type { RowVectors } from "../core/scoring.ts";

const ROWS_PER_BATCH = 16;

/**
 * @param options Options of the run that is queried: its model, and the heads to compute. A query that exceeds the
 *   model's limit is truncated.
 * @returns One row per query, in order.
 */
export async function embedQueries(
  params: Readonly<{
    queries: readonly string[];
    options: Pick<RunOptions, "model" | "heads">;
    tokenizer: Tokenizer;
    embedder: Embedder;
  }>,
): Promise<RowVectors> {
  const { tokenizer, embedder } = params;
  const { model, heads } = params.options;
  const rows = await encodeRows(tokenizer, { texts: params.queries, maxTokens: model.maxTokens });
  const shard = allocateShard({ lengths: rows.map((ids) => ids.length), dim: model.dim, heads });
  rows.forEach((ids, row) => shard.ids.set(ids, shard.offsets[row]));
  for (let from = 0; from < rows.length; from += ROWS_PER_BATCH) {
    const count = Math.min(ROWS_PER_BATCH, rows.length - from);
    await embedder.embed({ rows: Array.from({ length: count }, (_, i) => ({ shard, row: from + i })) });
  }
  const broken = shard.broken.findIndex((reason) => reason !== 0);
  if (broken !== -1) {
    throw new FleetError(
      "inference_failed",
      `the model produced non-finite vectors for the query ${JSON.stringify(params.queries[broken])}`,
    );
  }
  return vectorsOf(shard);
}

/** The vectors that scores are computed from, of an embedded shard. */
export function vectorsOf(shard: ShardBuffers): RowVectors {
  return {
    dim: shard.dim,
    dense: shard.dense,
    sparse: sparseOf(shard),
    colbert: shard.colbert && { offsets: shard.offsets.map((offset, row) => offset - row), values: shard.colbert },
  };
}

function sparseOf({
  rows,
  offsets: starts,
  sparseIndices,
  sparseValues,
  sparseCounts,
}: ShardBuffers): RowVectors["sparse"] {
  if (sparseIndices === null || sparseValues === null || sparseCounts === null) return null;
  const offsets = new Uint32Array(rows + 1);
  for (let row = 0; row < rows; row++) offsets[row + 1] = offsets[row]! + sparseCounts[row]!;
  const indices = new Uint32Array(offsets[rows]!);
  const values = new Float32Array(offsets[rows]!);
  for (let row = 0; row < rows; row++) {
    const start = starts[row]!;
    const end = start + sparseCounts[row]!;
    indices.set(sparseIndices.subarray(start, end), offsets[row]);
    values.set(sparseValues.subarray(start, end), offsets[row]);
  }
  return { offsets, indices, values };
}
