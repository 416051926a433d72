/**
 * Time that a device takes for a batch, by its shape. A transformer's work for `rows` padded to `length` has a fixed part
 * (launches, a call to the other thread), a part per token (projections and feed-forward), and a part per pair of tokens
 * of a row (attention), so
 *
 *     ms = batchMs + rows * length * (tokenMs + length * pairMs)
 *
 * and a device is described by three numbers, measured once and fitted.
 */

export interface CostModel {
  readonly batchMs: number;
  readonly tokenMs: number;
  readonly pairMs: number;
}

export interface BatchShape {
  readonly rows: number;
  /** Tokens that every row is padded to. */
  readonly length: number;
}

export interface CostSample extends BatchShape {
  readonly ms: number;
}

/** Costs of a device without measurements: one more batch equals 128 tokens of padding. */
export const PRESUMED_COST: CostModel = { batchMs: 0.128, tokenMs: 0.001, pairMs: 0 };

export function predictMs(model: CostModel, { rows, length }: BatchShape): number {
  return model.batchMs + rows * length * (model.tokenMs + length * model.pairMs);
}

/**
 * Non-negative least squares of relative errors: a short batch counts as much as a long one.
 *
 * The best non-negative fit is the best unconstrained fit of the terms that it does not set to zero. With three terms
 * there are seven such sets, so each is solved and the best one without a negative term is chosen.
 *
 * @returns Null when the samples do not determine the cost of a token: too few of them, or all of one size.
 */
export function fitCostModel(samples: readonly CostSample[]): CostModel | null {
  let best: { model: CostModel; error: number } | null = null;
  for (const terms of TERM_SETS) {
    const solved = leastSquares(samples, terms);
    if (solved === null || solved.some((value) => value < 0)) continue;
    const [batchMs = 0, tokenMs = 0, pairMs = 0] = spread(solved, terms);
    const model = { batchMs, tokenMs, pairMs };
    const error = samples.reduce((sum, sample) => sum + (predictMs(model, sample) / sample.ms - 1) ** 2, 0);
    if (best === null || error < best.error) best = { model, error };
  }
  return best === null || best.model.tokenMs + best.model.pairMs === 0 ? null : best.model;
}

/** Factors of `batchMs`, `tokenMs` and `pairMs` in a batch's time. */
const TERMS: readonly ((shape: BatchShape) => number)[] = [
  () => 1,
  ({ rows, length }) => rows * length,
  ({ rows, length }) => rows * length * length,
];
/** Sets of terms to fit; on a tie the earlier set wins. */
const TERM_SETS = [[0, 1, 2], [0, 1], [1, 2], [0, 2], [1], [2], [0]] as const;

/** Solution of the normal equations by elimination; null when the samples do not determine them. */
function leastSquares(samples: readonly CostSample[], terms: readonly number[]): number[] | null {
  const size = terms.length;
  const rows = terms.map(() => Array.from({ length: size + 1 }, () => 0));
  // Columns differ by orders of magnitude; scaling each to its largest value keeps rounding from losing any.
  const scales = terms.map((term) => Math.max(...samples.map((sample) => TERMS[term]!(sample) / sample.ms), 0));
  for (const sample of samples) {
    const values = terms.map((term, i) => TERMS[term]!(sample) / sample.ms / scales[i]!);
    for (let i = 0; i < size; i++) {
      for (let j = 0; j < size; j++) rows[i]![j]! += values[i]! * values[j]!;
      rows[i]![size]! += values[i]!;
    }
  }
  const solution = eliminate(rows);
  return solution && solution.map((value, i) => value / scales[i]!);
}

const LEAST_PIVOT = 1e-9;

/** @param rows Coefficients and right-hand side of as many equations as unknowns; changed in place. */
function eliminate(rows: number[][]): number[] | null {
  const size = rows.length;
  for (let at = 0; at < size; at++) {
    let pivot = at;
    for (let i = at + 1; i < size; i++) if (Math.abs(rows[i]![at]!) > Math.abs(rows[pivot]![at]!)) pivot = i;
    [rows[at], rows[pivot]] = [rows[pivot]!, rows[at]!];
    // Also refuses NaN, which samples with zero time would produce.
    if (!(Math.abs(rows[at]![at]!) > LEAST_PIVOT)) return null;
    for (let i = 0; i < size; i++) {
      if (i === at) continue;
      const factor = rows[i]![at]! / rows[at]![at]!;
      for (let j = at; j <= size; j++) rows[i]![j]! -= factor * rows[at]![j]!;
    }
  }
  return rows.map((row, i) => row[size]! / row[i]!);
}

function spread(solved: readonly number[], terms: readonly number[]): number[] {
  const all = [0, 0, 0];
  terms.forEach((term, i) => (all[term] = solved[i]!));
  return all;
}
