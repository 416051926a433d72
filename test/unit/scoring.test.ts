/** Scores against values worked out by hand and those that FlagEmbedding publishes. */
import { expect, test } from "vitest";
import {
  dot,
  headScore,
  hybridScore,
  maxSim,
  PUBLISHED_WEIGHTS,
  type RowVectors,
  sparseDot,
} from "../../src/core/scoring.ts";

const offsets = (...values: number[]): Uint32Array => Uint32Array.from(values);
const floats = (...values: number[]): Float32Array => Float32Array.from(values);

test("dot takes the vectors it is told to, at any width", () => {
  for (const dim of [1, 2, 3, 4, 5, 7, 8, 9]) {
    const a = Float32Array.from({ length: 3 * dim }, (_, i) => i);
    const b = Float32Array.from({ length: 3 * dim }, (_, i) => i % 3);
    let expected = 0;
    for (let k = 0; k < dim; k++) expected += a[2 * dim + k]! * b[dim + k]!;
    expect(dot(a, 2, b, 1, dim), `dim ${dim}`).toBe(expected);
  }
});

test("sparseDot multiplies the weights of shared ids only", () => {
  const query = { offsets: offsets(0, 2, 5), indices: Uint32Array.of(1, 2, 3, 7, 9), values: floats(8, 8, 0.5, 2, 1) };
  const rows = { offsets: offsets(0, 0, 4), indices: Uint32Array.of(3, 4, 9, 11), values: floats(2, 5, 0.25, 3) };
  expect(sparseDot(query, 1, rows, 1)).toBe(0.5 * 2 + 1 * 0.25);
  expect(sparseDot(query, 1, rows, 0)).toBe(0);
  expect(sparseDot(query, 0, rows, 1)).toBe(0);
});

test("maxSim is the mean over the query's vectors of each one's best match", () => {
  const query = { offsets: offsets(0, 1, 3), values: floats(9, 9, 1, 0, 0, 1) };
  const rows = { offsets: offsets(0, 1, 3), values: floats(9, 9, 0.5, 0.25, -1, 0.75) };
  expect(maxSim(query, 1, rows, 1, 2)).toBe((0.5 + 0.75) / 2);
});

test("a best match may be below zero", () => {
  const vectors = (...values: number[]) => ({ offsets: offsets(0, 1), values: floats(...values) });
  expect(maxSim(vectors(1, 0), 0, vectors(-1, 0), 0, 2)).toBe(-1);
});

test("hybridScore is FlagEmbedding's weighted mean", () => {
  // The first pair of sentences in FlagEmbedding's research/BGE_M3/README.md, all five scores printed there.
  const scores = { colbert: 0.7796, sparse: 0.1956, dense: 0.626 };
  expect(hybridScore(scores, PUBLISHED_WEIGHTS)).toBeCloseTo(0.6014, 4);
  // "sparse+dense" divides by the two weights that take part: 0.4 and 0.2.
  expect(hybridScore({ ...scores, colbert: null }, PUBLISHED_WEIGHTS)).toBeCloseTo(0.4825, 4);
});

test("a head that is missing or weighs nothing does not count", () => {
  expect(hybridScore({ dense: 0.5, sparse: null, colbert: null }, PUBLISHED_WEIGHTS)).toBe(0.5);
  expect(hybridScore({ dense: 0.5, sparse: 3, colbert: null }, { dense: 1, sparse: 0, colbert: 1 })).toBe(0.5);
  expect(hybridScore({ dense: null, sparse: 3, colbert: null }, { dense: 1, sparse: 0, colbert: 1 })).toBeNull();
});

test("headScore is null where one side has no such vectors", () => {
  const dense: RowVectors = { dim: 2, dense: floats(0.5, 0.5, 1, 0), sparse: null, colbert: null };
  expect(headScore("dense", dense, 1, dense, 0)).toBe(0.5);
  expect(headScore("sparse", dense, 0, dense, 0)).toBeNull();
  expect(headScore("colbert", dense, 0, dense, 0)).toBeNull();
});
