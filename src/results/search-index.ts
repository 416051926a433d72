/** The nearest rows of an index: dense finds candidates, and the index's heads rank them. */
import type { LanceIndex } from "./lance-index.ts";
import type { Embedder, Tokenizer } from "../core/ports.ts";
import type { RunOptions } from "../core/contracts.ts";
import { headScore, type HeadWeights, hybridScore } from "../core/scoring.ts";
import { embedQueries } from "./embed-queries.ts";
import { type Hit, scoresOf, weighedHeads } from "./search-run.ts";

/** Partitions of the index to search, enough to miss few neighbours. */
const NPROBES = 50;

/** @throws FleetError `bad_usage` when no head of the index has a weight. */
export async function searchIndex(
  params: Readonly<{
    index: LanceIndex;
    run: string;
    /** Options of the run in the index, whose heads are the index's. */
    options: RunOptions;
    query: string;
    top: number;
    /** Number of rows that dense selects for the other heads to rank. */
    candidates: number;
    weights: HeadWeights;
    withText: boolean;
    tokenizer: Tokenizer;
    embedder: Embedder;
  }>,
): Promise<Hit[]> {
  const { index, run, options, top, weights, withText } = params;
  const heads = weighedHeads(run, options, weights);
  const query = await embedQueries({ ...params, queries: [params.query] });
  const limit = Math.max(top, params.candidates);
  const found = await index.nearest({ vector: query.dense!.subarray(0, query.dim), limit, nprobes: NPROBES });
  const hits = found.map(({ id, chunk, text, vectors }): Hit => {
    const scores = scoresOf(heads, (head) => headScore(head, query, 0, vectors, 0));
    return { id, chunk, score: hybridScore(scores, weights)!, ...(withText && text !== null && { text }) };
  });
  return hits.toSorted((a, b) => b.score - a.score).slice(0, top);
}
