/**
 * Assignment of rows to batches. A batch costs what the device's cost model predicts for its padded shape. Dynamic
 * programming finds the plan of least total cost over rows sorted by length, so a single long row is separated from
 * short ones exactly when padding would cost more than one more batch.
 */
import { type CostModel, PRESUMED_COST, predictMs } from "./cost-model.ts";

/** Limits and costs of a batch. */
export interface PackingLimits {
  /** Largest padded area of a batch in tokens, bounded by the device's memory. A single row may exceed it, alone. */
  readonly maxBatchTokens: number;
  readonly maxBatchRows: number;
  /** Longest predicted time of a batch in milliseconds, so that a slow device can stop soon. A single row may exceed it, alone. */
  readonly maxBatchMs: number;
  readonly cost: CostModel;
  /** Number of tokens that the device pads a batch's longest row to. */
  readonly paddedLength: (longest: number) => number;
}

export const DEFAULT_PACKING: PackingLimits = {
  maxBatchTokens: 16_384,
  maxBatchRows: 512,
  maxBatchMs: 5000,
  cost: PRESUMED_COST,
  paddedLength: (longest) => longest,
};

const ROUNDING = 1e-9;

/**
 * Splits rows, longest first, into consecutive batches of least total time.
 *
 * @param lengths Number of tokens of each row, descending.
 * @returns The end index of each batch.
 */
export function planBatches(lengths: ArrayLike<number>, limits: PackingLimits): number[] {
  const rows = lengths.length;
  const total = new Float64Array(rows + 1);
  const startOf = new Uint32Array(rows + 1);
  const padded = Uint32Array.from(lengths, limits.paddedLength);
  const rowMs = Float64Array.from(
    padded,
    (length) => predictMs(limits.cost, { rows: 1, length }) - limits.cost.batchMs,
  );
  for (let end = 1; end <= rows; end++) {
    total[end] = Infinity;
    // Rows only get longer backwards, so the first start that does not fit ends the search.
    for (let start = end - 1; start >= 0; start--) {
      const batchRows = end - start;
      const ms = limits.cost.batchMs + batchRows * rowMs[start]!;
      if (batchRows > 1 && !fits(limits, batchRows, padded[start]!, ms)) break;
      const sum = total[start]! + ms;
      // Among plans that differ only by rounding, prefer the shortest last batch: that one waits for more rows.
      if (sum < total[end]! * (1 - ROUNDING)) {
        total[end] = sum;
        startOf[end] = start;
      }
    }
  }
  const ends: number[] = [];
  for (let end = rows; end > 0; end = startOf[end]!) ends.push(end);
  return ends.toReversed();
}

function fits(limits: PackingLimits, rows: number, length: number, ms: number): boolean {
  return rows <= limits.maxBatchRows && rows * length <= limits.maxBatchTokens && ms <= limits.maxBatchMs;
}

/** Most rows per plan; bounds planning time. The pool may hold more. */
const PLAN_ROWS = 4096;

/**
 * The pool of rows that wait for the device. Rows of all shards are kept in one order, longest
 * first, so batches mix shards freely.
 */
export class Packer<Row> {
  readonly #limits: PackingLimits;
  readonly #lengthOf: (row: Row) => number;
  /** Rows in ascending length, so that a batch is taken from the end. */
  #pool: Row[] = [];
  #planned: number[] = [];
  #tokens = 0;

  constructor(limits: PackingLimits, lengthOf: (row: Row) => number) {
    this.#limits = limits;
    this.#lengthOf = lengthOf;
  }

  get pendingRows(): number {
    return this.#pool.length;
  }

  /** Number of real tokens in the pool. */
  get pendingTokens(): number {
    return this.#tokens;
  }

  add(rows: readonly Row[]): void {
    for (const row of rows) this.#tokens += this.#lengthOf(row);
    this.#pool = this.#pool.concat(rows).sort((a, b) => this.#lengthOf(a) - this.#lengthOf(b));
    this.#planned = [];
  }

  /** Removes rows from the pool, as when a shard returns to the queue. */
  remove(isGone: (row: Row) => boolean): void {
    this.#pool = this.#pool.filter((row) => !isGone(row));
    this.#tokens = this.#pool.reduce((sum, row) => sum + this.#lengthOf(row), 0);
    this.#planned = [];
  }

  /**
   * The next batch, longest rows first. Without `flush` the last batch of the plan stays: later rows can fill up this
   * remainder.
   */
  next(params: Readonly<{ flush: boolean }>): Row[] | null {
    if (this.#planned.length <= 1) this.#plan();
    if (this.#planned.length === 0 || (this.#planned.length === 1 && !params.flush)) return null;
    const size = this.#planned.shift()!;
    const batch = this.#pool.splice(this.#pool.length - size, size).toReversed();
    for (const row of batch) this.#tokens -= this.#lengthOf(row);
    return batch;
  }

  #plan(): void {
    const lengths = this.#pool.slice(-PLAN_ROWS).toReversed().map(this.#lengthOf);
    let start = 0;
    this.#planned = planBatches(lengths, this.#limits).map((end) => {
      const size = end - start;
      start = end;
      return size;
    });
  }
}
