/** Checks of a row's vectors: finite, of unit length, sparse weights positive and in order. */
import type { ResultRows } from "../arrow/results.ts";

/** Tolerance of a vector's length. A float16 value, and so the length, is off by at most 1 in 2,048; float32 is far closer. */
const NORM_TOLERANCE = 1e-3;

/** Faults of a row's vectors, at most one per head. */
export function faultsOfVectors(rows: ResultRows, row: number): Verdict[] {
  const verdicts = [denseVerdict(rows, row), sparseVerdict(rows, row), colbertVerdict(rows, row)];
  return verdicts.filter((verdict) => verdict !== null);
}

/** A fault of a vector. */
export interface Verdict {
  readonly kind: "nonFinite" | "badNorm";
  readonly finding: string;
}

function denseVerdict(rows: ResultRows, row: number): Verdict | null {
  return rows.dense === null ? null : normVerdict(rows.dense, row, rows.dim, "the dense vector");
}

function colbertVerdict(rows: ResultRows, row: number): Verdict | null {
  if (rows.colbert === null) return null;
  const { offsets, values } = rows.colbert;
  const vectors = offsets[row + 1]! - offsets[row]!;
  if (vectors !== rows.tokenCounts[row]! - 1) {
    return { kind: "badNorm", finding: `${vectors} ColBERT vectors for ${rows.tokenCounts[row]} tokens` };
  }
  for (let vector = offsets[row]!; vector < offsets[row + 1]!; vector++) {
    const verdict = normVerdict(values, vector, rows.dim, `ColBERT vector ${vector - offsets[row]!}`);
    if (verdict !== null) return verdict;
  }
  return null;
}

function normVerdict(values: Float32Array, index: number, dim: number, what: string): Verdict | null {
  let sum = 0;
  for (let i = index * dim; i < (index + 1) * dim; i++) sum += values[i]! * values[i]!;
  if (!Number.isFinite(sum)) return { kind: "nonFinite", finding: `${what} is not finite` };
  if (Math.abs(Math.sqrt(sum) - 1) <= NORM_TOLERANCE) return null;
  return { kind: "badNorm", finding: `${what} has length ${Math.sqrt(sum).toFixed(6)}` };
}

function sparseVerdict(rows: ResultRows, row: number): Verdict | null {
  if (rows.sparse === null) return null;
  const { offsets, indices, values } = rows.sparse;
  for (let i = offsets[row]!; i < offsets[row + 1]!; i++) {
    if (!Number.isFinite(values[i])) return { kind: "nonFinite", finding: "a sparse weight is not finite" };
    if (!(values[i]! > 0)) return { kind: "badNorm", finding: `a sparse weight is ${values[i]}` };
    if (i > offsets[row]! && indices[i]! <= indices[i - 1]!)
      return { kind: "badNorm", finding: "sparse indices do not ascend" };
  }
  return null;
}
