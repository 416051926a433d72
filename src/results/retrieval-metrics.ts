/** What a ranking is worth, as trec_eval defines it. Rankings are document ids, best first, each once. */

/** How relevant each relevant document is; what is not named is worth nothing. */
export type Relevance = ReadonlyMap<string, number>;

/** The share of the relevant documents that are among the first `k`. */
export function recallAt(ranking: readonly string[], relevance: Relevance, k: number): number {
  const found = ranking.slice(0, k).filter((id) => relevance.has(id)).length;
  return found / relevance.size;
}

/** One over the place of the first relevant document among the first `k`; 0 when there is none. */
export function reciprocalRankAt(ranking: readonly string[], relevance: Relevance, k: number): number {
  const place = ranking.slice(0, k).findIndex((id) => relevance.has(id));
  return place === -1 ? 0 : 1 / (place + 1);
}

/** Discounted gain of the first `k` (gain over log2 of the place plus one) relative to the best order there is. */
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
