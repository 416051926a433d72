/** The nearest rows of a sealed run, by an exact scan of its files: to see that it works. */
import { type ResultRows, decodeResults } from "../arrow/results.ts";
import { allocateShard, type ShardBuffers } from "../core/batch.ts";
import { MAX_DATA_FILE_BYTES, type RunRecord } from "../core/contracts.ts";
import { FleetError } from "../core/errors.ts";
import type { Embedder, ObjectStore, Tokenizer } from "../core/ports.ts";
import { readManifest } from "./seal.ts";
import { readRun } from "./open-run.ts";

export interface Hit {
  readonly id: string;
  readonly chunk: number;
  readonly score: number;
}

/** FlagEmbedding's published weights for BGE-M3 (its README): dense 0.4, sparse 0.2, ColBERT 0.4. */
const WEIGHTS = { dense: 0.4, sparse: 0.2, colbert: 0.4 } as const;

/** @throws FleetError `run_unknown`, `run_incomplete` when it is not sealed. */
export async function searchRun(
  params: Readonly<{
    store: ObjectStore;
    run: string;
    query: string;
    top: number;
    tokenizer: Tokenizer;
    embedder: Embedder;
  }>,
): Promise<Hit[]> {
  const { store, run, top } = params;
  const record = await readRun(store, run);
  const manifest = await readManifest(store, run);
  if (manifest === null) {
    throw new FleetError("run_incomplete", `run ${run} is not sealed, so its rows are not all there`, {
      cure: `see what it waits for: embedfleet status ${run}`,
    });
  }
  const query = await embedQuery(params, record);
  let best: Hit[] = [];
  for (const { key, shard } of manifest.files) {
    const bytes = await store.read({ key, maxBytes: MAX_DATA_FILE_BYTES });
    const { rows } = decodeResults({ run, shard, options: record.options, bytes });
    const hits = rows.ids.map((id, row): Hit => ({ id, chunk: rows.chunks[row]!, score: score(query, rows, row) }));
    best = [...best, ...hits].sort((a, b) => b.score - a.score).slice(0, top);
  }
  return best;
}

/** The query as a shard of one row, through the same path as every document. */
async function embedQuery(
  params: Readonly<{ query: string; tokenizer: Tokenizer; embedder: Embedder }>,
  record: RunRecord,
): Promise<ShardBuffers> {
  const { tokenizer, embedder } = params;
  const { model, heads } = record.options;
  const [encoded] = await tokenizer.encode({ texts: [params.query], withStarts: false });
  const room = model.maxTokens - tokenizer.prefixIds.length - tokenizer.suffixIds.length;
  const ids = [...tokenizer.prefixIds, ...encoded!.ids.subarray(0, room), ...tokenizer.suffixIds];
  const shard = allocateShard({ lengths: [ids.length], dim: model.dim, heads });
  shard.ids.set(ids);
  await embedder.embed({ rows: [{ shard, row: 0 }] });
  return shard;
}

/** The weighted mean of the scores of the heads that the run has. */
function score(query: ShardBuffers, rows: ResultRows, row: number): number {
  let sum = 0;
  let weights = 0;
  if (query.dense !== null && rows.dense !== null) {
    sum += WEIGHTS.dense * dot(query.dense, 0, rows.dense, row, rows.dim);
    weights += WEIGHTS.dense;
  }
  if (query.sparseIndices !== null && rows.sparse !== null) {
    sum += WEIGHTS.sparse * sparseScore(query, rows.sparse, row);
    weights += WEIGHTS.sparse;
  }
  if (query.colbert !== null && rows.colbert !== null) {
    sum += WEIGHTS.colbert * colbertScore(query, rows.colbert, row, rows.dim);
    weights += WEIGHTS.colbert;
  }
  return sum / weights;
}

/** @param i, j Vector numbers. */
function dot(a: Float32Array, i: number, b: Float32Array, j: number, dim: number): number {
  let sum = 0;
  for (let k = 0; k < dim; k++) sum += a[i * dim + k]! * b[j * dim + k]!;
  return sum;
}

/** Sum over shared ids of the product of their weights; both lists ascend. */
function sparseScore(query: ShardBuffers, sparse: NonNullable<ResultRows["sparse"]>, row: number): number {
  const count = query.sparseCounts![0]!;
  let sum = 0;
  let at = sparse.offsets[row]!;
  const end = sparse.offsets[row + 1]!;
  for (let i = 0; i < count; i++) {
    const id = query.sparseIndices![i]!;
    while (at < end && sparse.indices[at]! < id) at++;
    if (at < end && sparse.indices[at] === id) sum += query.sparseValues![i]! * sparse.values[at]!;
  }
  return sum;
}

/** Mean over the query's tokens of the best match among the row's tokens. */
function colbertScore(
  query: ShardBuffers,
  colbert: NonNullable<ResultRows["colbert"]>,
  row: number,
  dim: number,
): number {
  const tokens = query.offsets[1]! - 1;
  let sum = 0;
  for (let token = 0; token < tokens; token++) {
    let best = -1;
    for (let vector = colbert.offsets[row]!; vector < colbert.offsets[row + 1]!; vector++) {
      best = Math.max(best, dot(query.colbert!, token, colbert.values, vector, dim));
    }
    sum += best;
  }
  return sum / tokens;
}
