/** How others make batches, to compare with. Each takes rows' lengths and gives batches of row lengths. */

export interface PlannerInput {
  /** Tokens of each row, in the order of the corpus. */
  readonly lengths: readonly number[];
  /** Characters of each row. */
  readonly chars: readonly number[];
  readonly maxBatchTokens: number;
}
export type Planner = (input: PlannerInput) => number[][];

/** A fixed number of rows, in the order of the corpus: the default of most libraries. */
export function fixedCount(rows: number): Planner {
  return ({ lengths }) => chunk(lengths, rows);
}

/** A fixed number of rows, sorted by characters, longest first: sentence-transformers' `encode`. */
export function sortedByChars(rows: number): Planner {
  return ({ lengths, chars }) => {
    const order = [...lengths.keys()].sort((a, b) => chars[b]! - chars[a]!);
    return chunk(
      order.map((row) => lengths[row]!),
      rows,
    );
  };
}

/** Longest first, as many rows as fit the budget of padded tokens. */
export const greedy: Planner = ({ lengths, maxBatchTokens }) => {
  const sorted = lengths.toSorted((a, b) => b - a);
  const batches: number[][] = [];
  for (let at = 0; at < sorted.length; at += batches.at(-1)!.length) {
    batches.push(sorted.slice(at, at + Math.max(1, Math.floor(maxBatchTokens / sorted[at]!))));
  }
  return batches;
};

/**
 * crossfit's `SortedSeqLoader`: rows sorted longest first, from `initialRows` doubled up to eight times
 * and then grown in steps while its memory estimate stays within the budget. The estimate is taken from
 * the last row of the window, which is its shortest, and the allowed doublings and steps are spent once
 * for the whole corpus. Its estimator is replaced by an exact one, `rows x length`.
 */
export function crossfit(initialRows: number): Planner {
  return ({ lengths, maxBatchTokens }) => {
    const sorted = lengths.toSorted((a, b) => b - a);
    const longest = sorted[0] ?? 1;
    const estimate = (start: number, end: number): number => (end - start) * sorted[end - 1]!;
    const batches: number[][] = [];
    let doublings = 8;
    let step = initialRows;
    for (let start = 0; start < sorted.length;) {
      let best = Math.min(start + initialRows, sorted.length);
      while (doublings > 0) {
        const end = Math.min(start + best * 2, sorted.length);
        if (end <= best || estimate(start, end) > maxBatchTokens) break;
        best = end;
        doublings--;
      }
      for (let tries = 0; tries < 8 && step > 0 && best < sorted.length; tries++) {
        const end = Math.min(best + step, sorted.length);
        const weight = 1 + 5 * (sorted[end - 1]! / longest) ** 2;
        if (estimate(start, end) * weight <= maxBatchTokens) best = end;
        else step = Math.floor(step / 2);
      }
      batches.push(sorted.slice(start, best));
      start = best;
    }
    return batches;
  };
}

function chunk(lengths: readonly number[], rows: number): number[][] {
  const batches: number[][] = [];
  for (let at = 0; at < lengths.length; at += rows) batches.push(lengths.slice(at, at + rows));
  return batches;
}
