/** Retrieval metrics as trec_eval defines them. Rankings are document ids, best first, each once. */

/** Gain of each relevant document; others have gain 0. */
export type Relevance = ReadonlyMap<string, number>;

/** Fraction of the relevant documents that are among the first `k`. */
export function recallAt(ranking: readonly string[], relevance: Relevance, k: number): number {
  const found = ranking.slice(0, k).filter((id) => relevance.has(id)).length;
  return found / relevance.size;
}

/** Reciprocal rank of the first relevant document among the first `k`; 0 when there is none. */
export function reciprocalRankAt(ranking: readonly string[], relevance: Relevance, k: number): number {
  const place = ranking.slice(0, k).findIndex((id) => relevance.has(id));
  return place === -1 ? 0 : 1 / (place + 1);
}

/** NDCG: discounted gain of the first `k` (gain over log2 of rank plus one), relative to the ideal order. */
export function ndcgAt(ranking: readonly string[], relevance: Relevance, k: number): number {
  const gains = ranking.map((id) => relevance.get(id) ?? 0);
  const ideal = [...relevance.values()].toSorted((a, b) => b - a);
  return discounted(gains, k) / discounted(ideal, k);
}

function discounted(gains: readonly number[], k: number): number {
  return gains.slice(0, k).reduce((sum, gain, place) => sum + gain / Math.log2(place + 2), 0);
}

export function meanOf(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
