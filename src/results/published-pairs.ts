/**
 * The four sentence pairs whose scores BGE-M3's authors published (FlagEmbedding, research/BGE_M3/README.md),
 * computed by their own code in half precision.
 */
import { ALL_HEADS, type Head, type ModelRef, type Precision } from "../core/contracts.ts";
import type { Embedder, Tokenizer } from "../core/ports.ts";
import { headScore, hybridScore, PUBLISHED_WEIGHTS } from "../core/scoring.ts";
import { embedQueries } from "./embed-queries.ts";

const QUERIES = ["What is BGE M3?", "Defination of BM25"];
const PASSAGES = [
  "BGE M3 is an embedding model supporting dense retrieval, lexical matching and multi-vector interaction.",
  "BM25 is a bag-of-words retrieval function that ranks a set of documents based on the query terms appearing in each document",
];

export type PublishedScore = Head | "sparse+dense" | "colbert+sparse+dense";
const PUBLISHED: Readonly<Record<PublishedScore, readonly number[]>> = {
  colbert: [0.7796499729156494, 0.4621465802192688, 0.4523794651031494, 0.7898575067520142],
  sparse: [0.195556640625, 0.00879669189453125, 0.0, 0.1802978515625],
  dense: [0.6259765625, 0.347412109375, 0.349853515625, 0.67822265625],
  "sparse+dense": [0.482503205537796, 0.23454029858112335, 0.2332356721162796, 0.5122477412223816],
  "colbert+sparse+dense": [0.6013619303703308, 0.3255828022956848, 0.32089319825172424, 0.6232916116714478],
};
/** Tolerance of a score for half precision and another summation order; coarser precisions differ more. */
const FINE: Readonly<Partial<Record<Precision, number>>> = { fp32: 0.005, fp16: 0.005 };
const COARSE = 0.03;

export interface PublishedParity {
  readonly score: PublishedScore;
  readonly published: readonly number[];
  readonly found: readonly number[];
  readonly passes: boolean;
}

/** @returns All five scores of the four pairs. */
export async function checkPublishedPairs(
  params: Readonly<{ model: ModelRef; precision: Precision; tokenizer: Tokenizer; embedder: Embedder }>,
): Promise<PublishedParity[]> {
  const { model, precision, tokenizer, embedder } = params;
  const queries = [...QUERIES, ...PASSAGES];
  const rows = await embedQueries({ queries, options: { model, heads: [...ALL_HEADS] }, tokenizer, embedder });
  const pairs = QUERIES.flatMap((_, q) => PASSAGES.map((_, p) => [q, QUERIES.length + p] as const));
  const tolerance = FINE[precision] ?? COARSE;
  const scores = pairs.map(([q, p]) => {
    const [dense, sparse, colbert] = ALL_HEADS.map((head) => headScore(head, rows, q, rows, p));
    const both = { dense: dense!, sparse: sparse!, colbert: null };
    return {
      dense: dense!,
      sparse: sparse!,
      colbert: colbert!,
      "sparse+dense": hybridScore(both, PUBLISHED_WEIGHTS)!,
      "colbert+sparse+dense": hybridScore({ ...both, colbert: colbert! }, PUBLISHED_WEIGHTS)!,
    };
  });
  return (Object.keys(PUBLISHED) as PublishedScore[]).map((score) => {
    const found = scores.map((of) => of[score]);
    const passes = found.every((value, i) => Math.abs(value - PUBLISHED[score][i]!) <= tolerance);
    return { score, published: PUBLISHED[score], found, passes };
  });
}
