/** Evaluates how well a run answers questions with known answers, per head and combined. */
import type { Head, Manifest, RunOptions } from "../core/contracts.ts";
import { FleetError } from "../core/errors.ts";
import type { Embedder, ObjectStore, Tokenizer } from "../core/ports.ts";
import { meanOf, ndcgAt, recallAt, reciprocalRankAt } from "./retrieval-metrics.ts";
import { headScore, type HeadWeights, hybridScore, type RowVectors } from "../core/scoring.ts";
import { Top } from "./top.ts";
import type { ResultRows } from "../arrow/results.ts";
import { readChain, readEffective } from "../run/chain.ts";
import { embedQueries } from "./embed-queries.ts";
import type { Question } from "./questions.ts";
import { scoresOf } from "./search-run.ts";

/** Limits the query vectors and rankings in memory; the run is read once or twice per block. */
const QUESTIONS_PER_BLOCK = 500;

export type Ranker = Head | "hybrid";

export interface Figures {
  readonly ranker: Ranker;
  /** Null for all questions together. */
  readonly lang: string | null;
  readonly questions: number;
  /** Recall by depth `k`. */
  readonly recall: Readonly<Record<number, number>>;
  readonly ndcg: Readonly<Record<number, number>>;
  /** Mean reciprocal rank at the greatest depth. */
  readonly mrr: number;
}

export interface Evaluation {
  readonly run: string;
  readonly options: RunOptions;
  /** Number of rows of the run and its bases, without those that it removes from them. */
  readonly rows: number;
  /** Total size of their result files. */
  readonly bytes: number;
  readonly seconds: number;
  /** Relevant ids without a row in the run; each lowers recall. */
  readonly unknownIds: readonly string[];
  readonly figures: readonly Figures[];
}

export interface EvaluateParams {
  readonly store: ObjectStore;
  readonly run: string;
  readonly questions: readonly Question[];
  /** Depths, ascending. */
  readonly at: readonly number[];
  readonly weights: HeadWeights;
  /**
   * Number of best documents of dense and of sparse that ColBERT, and a hybrid with it, rerank, as BGE-M3's
   * authors do: scoring every pair of tokens in a corpus costs a thousand times more. 0 ranks every document.
   */
  readonly candidates: number;
  readonly tokenizer: Tokenizer;
  readonly embedder: Embedder;
  readonly onFile?: (done: number, planned: number) => void;
}

/** Evaluates a run. @throws FleetError `run_unknown`, `run_incomplete`, `bad_usage` if no relevant id is in it. */
export async function evaluateRun(params: Readonly<EvaluateParams>): Promise<Evaluation> {
  const startedAt = performance.now();
  const { store, run, questions } = params;
  const chain = await readChain(store, run);
  const unknown = new Set(questions.flatMap(({ relevance }) => [...relevance.keys()]));
  const wanted = unknown.size;
  const rankings: Rankings[] = [];
  for (let from = 0; from < questions.length; from += QUESTIONS_PER_BLOCK) {
    const block = questions.slice(from, from + QUESTIONS_PER_BLOCK);
    rankings.push(...(await rankBlock(params, chain, block, unknown)));
  }
  if (unknown.size === wanted) {
    throw new FleetError("bad_usage", `run ${run} has no row of any relevant document of the questions`, {
      cure: `relevant ids are document ids of the corpus; the questions name ${JSON.stringify([...unknown].slice(0, 3)).slice(1, -1)}`,
    });
  }
  return {
    run,
    options: chain[0]!.options,
    rows: chain.reduce((sum, { totals }) => sum + totals.rows - (totals.deletes ?? 0), 0),
    bytes: chain.reduce((sum, { totals }) => sum + totals.bytes, 0),
    seconds: (performance.now() - startedAt) / 1000,
    unknownIds: [...unknown],
    figures: summarise(questions, rankings, params.at),
  };
}

type Rankings = ReadonlyMap<Ranker, readonly string[]>;

async function rankBlock(
  params: Readonly<EvaluateParams>,
  chain: readonly Manifest[],
  block: readonly Question[],
  unknown: Set<string>,
): Promise<Rankings[]> {
  const { store } = params;
  const { options } = chain[0]!;
  const files = chain.reduce((sum, manifest) => sum + manifest.files.length, 0);
  const queries = await embedQueries({
    ...params,
    queries: block.map(({ question }) => question),
    options,
  });
  const board = new Board(params, options.heads, queries, block.length);
  const passes = board.needsSecondPass ? 2 : 1;
  let done = 0;
  for (let pass = 1; pass <= passes; pass++) {
    const candidates = pass === 2 ? board.candidates() : null;
    for await (const { rows, kept } of readEffective(store, chain)) {
      for (const row of kept) {
        if (candidates === null) board.scoreCheaply(rows, row);
        else for (const q of candidates.get(rows.ids[row]!) ?? []) board.scoreDearly(rows, row, q);
        unknown.delete(rows.ids[row]!);
      }
      params.onFile?.(++done, passes * files);
    }
  }
  return board.rankings();
}

/** The best documents for each question by each ranker. */
class Board {
  readonly #heads: readonly Head[];
  readonly #weights: HeadWeights;
  readonly #candidates: number;
  readonly #queries: RowVectors;
  readonly #tops: readonly Map<Ranker, Top<null>>[];
  /** Rankers of the first pass, over all rows, and of the second, over candidates. */
  readonly #cheap: readonly Ranker[];
  readonly #dear: readonly Ranker[];

  constructor(
    params: Readonly<Pick<EvaluateParams, "at" | "weights" | "candidates">>,
    heads: readonly Head[],
    queries: RowVectors,
    questions: number,
  ) {
    const weighed = heads.filter((head) => params.weights[head] > 0);
    const rankers: Ranker[] = weighed.length > 1 ? [...heads, "hybrid"] : [...heads];
    const first = heads.filter((head) => head !== "colbert");
    const isDear = (ranker: Ranker): boolean =>
      params.candidates > 0 &&
      first.length > 0 &&
      (ranker === "colbert" || (ranker === "hybrid" && weighed.includes("colbert")));
    this.#heads = heads;
    this.#weights = params.weights;
    this.#candidates = params.candidates;
    this.#queries = queries;
    this.#cheap = rankers.filter((ranker) => !isDear(ranker));
    this.#dear = rankers.filter(isDear);
    const depth = Math.max(params.candidates, ...params.at);
    this.#tops = Array.from({ length: questions }, () => new Map(rankers.map((ranker) => [ranker, new Top(depth)])));
  }

  get needsSecondPass(): boolean {
    return this.#dear.length > 0;
  }

  scoreCheaply(rows: ResultRows, row: number): void {
    for (let q = 0; q < this.#tops.length; q++) this.#score(rows, row, q, this.#cheap);
  }

  scoreDearly(rows: ResultRows, row: number, q: number): void {
    this.#score(rows, row, q, this.#dear);
  }

  #score(rows: ResultRows, row: number, q: number, rankers: readonly Ranker[]): void {
    const needed = rankers.includes("hybrid") ? this.#heads : (rankers as readonly Head[]);
    const scores = scoresOf(needed, (head) => headScore(head, this.#queries, q, rows, row));
    for (const ranker of rankers) {
      const score = ranker === "hybrid" ? hybridScore(scores, this.#weights) : scores[ranker];
      // A document that shares no token with the question is not in its sparse ranking.
      if (score === null || (ranker === "sparse" && score === 0)) continue;
      this.#tops[q]!.get(ranker)!.offer(score, rows.ids[row]!, nothing);
    }
  }

  /** The questions that each document is a candidate for. */
  candidates(): Map<string, number[]> {
    const questionsById = new Map<string, number[]>();
    this.#tops.forEach((tops, q) => {
      const heads = this.#cheap.filter((ranker) => ranker !== "hybrid");
      const ids = heads.flatMap((head) =>
        tops
          .get(head)!
          .ranked()
          .slice(0, this.#candidates)
          .map(({ key }) => key),
      );
      for (const id of new Set(ids)) questionsById.set(id, [...(questionsById.get(id) ?? []), q]);
    });
    return questionsById;
  }

  rankings(): Rankings[] {
    return this.#tops.map(
      (tops) => new Map([...tops].map(([ranker, top]) => [ranker, top.ranked().map(({ key }) => key)])),
    );
  }
}

function nothing(): null {
  return null;
}

function summarise(questions: readonly Question[], rankings: readonly Rankings[], at: readonly number[]): Figures[] {
  const langs = [...new Set(questions.map(({ lang }) => lang))].filter((lang) => lang !== null).toSorted();
  const rankers = [...rankings[0]!.keys()];
  const depth = at.at(-1)!;
  return [null, ...langs].flatMap((lang) => {
    const chosen = [...questions.keys()].filter((q) => lang === null || questions[q]!.lang === lang);
    return rankers.map((ranker): Figures => {
      const mean = (metric: typeof recallAt, k: number): number =>
        meanOf(chosen.map((q) => metric(rankings[q]!.get(ranker)!, questions[q]!.relevance, k)));
      return {
        ranker,
        lang,
        questions: chosen.length,
        recall: Object.fromEntries(at.map((k) => [k, mean(recallAt, k)])),
        ndcg: Object.fromEntries(at.map((k) => [k, mean(ndcgAt, k)])),
        mrr: mean(reciprocalRankAt, depth),
      };
    });
  });
}
