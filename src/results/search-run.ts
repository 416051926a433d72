/** The nearest rows of a sealed run and its bases, by an exact scan of its files, for inspection. */
import { ALL_HEADS, type Head, type RunOptions } from "../core/contracts.ts";
import { FleetError } from "../core/errors.ts";
import type { Embedder, ObjectStore, Tokenizer } from "../core/ports.ts";
import { headScore, type HeadWeights, hybridScore, PUBLISHED_WEIGHTS } from "../core/scoring.ts";
import { Top } from "./top.ts";
import { rowKey } from "../core/rows.ts";
import { readChain, readEffective } from "../run/chain.ts";
import { embedQueries } from "./embed-queries.ts";

/** A row that was found; hits are ordered nearest first. */
export interface Hit {
  readonly id: string;
  readonly chunk: number;
  readonly score: number;
  /** The row's text, if requested. */
  readonly text?: string;
}

/**
 * The rows nearest to a query, exactly, by reading every file; for a delta the effective rows.
 *
 * @throws FleetError `run_unknown`, `run_incomplete` when it is not sealed, `bad_usage` when the run has no text or
 *   no head with a weight.
 */
export async function searchRun(
  params: Readonly<{
    store: ObjectStore;
    run: string;
    query: string;
    top: number;
    weights?: HeadWeights;
    withText?: boolean;
    tokenizer: Tokenizer;
    embedder: Embedder;
  }>,
): Promise<Hit[]> {
  const { store, run, weights = PUBLISHED_WEIGHTS, withText = false } = params;
  const chain = await readChain(store, run);
  const { options } = chain[0]!;
  const heads = weighedHeads(run, options, weights);
  if (withText && !options.keepText) {
    throw new FleetError("bad_usage", `run ${run} has no text to show`, {
      cure: "leave --text out, or embed the corpus with --keep-text",
    });
  }
  const query = await embedQueries({
    ...params,
    queries: [params.query],
    options: { model: options.model, heads },
  });
  const best = new Top<Omit<Hit, "score">>(params.top);
  for await (const { rows, kept } of readEffective(store, chain)) {
    for (const row of kept) {
      const id = rows.ids[row]!;
      const chunk = rows.chunks[row]!;
      const scores = scoresOf(heads, (head) => headScore(head, query, 0, rows, row));
      best.offer(hybridScore(scores, weights)!, rowKey(id, chunk), () => ({
        id,
        chunk,
        ...(withText && { text: rows.texts![row]! }),
      }));
    }
  }
  return best.ranked().map(({ score, value: { id, chunk, ...rest } }) => ({ id, chunk, score, ...rest }));
}

/** The heads used for scores: those of the run with a weight above 0. */
export function weighedHeads(run: string, options: RunOptions, weights: HeadWeights): Head[] {
  const heads = options.heads.filter((head) => weights[head] > 0);
  if (heads.length > 0) return heads;
  throw new FleetError("bad_usage", `run ${run} has only ${options.heads.join(", ")}, whose weights are 0`, {
    cure: `pass --weights dense,sparse,colbert with a number above 0 for ${options.heads.join(" or ")}`,
  });
}

export function scoresOf(heads: readonly Head[], score: (head: Head) => number | null): Record<Head, number | null> {
  const scores: Record<Head, number | null> = { dense: null, sparse: null, colbert: null };
  for (const head of ALL_HEADS) if (heads.includes(head)) scores[head] = score(head);
  return scores;
}
