/** The metrics against values worked out by hand. */
import { expect, test } from "vitest";
import { meanOf, ndcgAt, recallAt, reciprocalRankAt } from "../../src/results/retrieval-metrics.ts";

const ranking = ["a", "b", "c", "d", "e"];
const relevance = new Map([
  ["b", 1],
  ["d", 1],
  ["z", 1],
]);

test("recall is a share of all relevant documents, found or not", () => {
  expect(recallAt(ranking, relevance, 1)).toBe(0);
  expect(recallAt(ranking, relevance, 2)).toBe(1 / 3);
  expect(recallAt(ranking, relevance, 5)).toBe(2 / 3);
  expect(recallAt([], relevance, 5)).toBe(0);
});

test("reciprocal rank looks at the first relevant document, and no further than k", () => {
  expect(reciprocalRankAt(ranking, relevance, 5)).toBe(1 / 2);
  expect(reciprocalRankAt(ranking, relevance, 1)).toBe(0);
  expect(reciprocalRankAt(ranking, new Map([["a", 1]]), 10)).toBe(1);
});

test("nDCG discounts by log2 of the place plus one and divides by the best order there is", () => {
  // Found at places 2 and 4; ideal is places 1, 2 and 3.
  const found = 1 / Math.log2(3) + 1 / Math.log2(5);
  const ideal = 1 + 1 / Math.log2(3) + 1 / Math.log2(4);
  expect(ndcgAt(ranking, relevance, 5)).toBeCloseTo(found / ideal, 12);
  // With k = 2 the ideal has two places only: (1/log2 3) / (1 + 1/log2 3) = 0.6309 / 1.6309.
  expect(ndcgAt(ranking, relevance, 2)).toBeCloseTo(0.38685, 5);
  expect(ndcgAt(["b", "d", "z"], relevance, 10)).toBe(1);
});

test("nDCG weighs graded relevance by its gain", () => {
  const graded = new Map([
    ["a", 1],
    ["b", 3],
  ]);
  // (1 + 3/log2 3) / (3 + 1/log2 3) = 2.89279 / 3.63093
  expect(ndcgAt(["a", "b"], graded, 10)).toBeCloseTo(0.79671, 5);
});

test("meanOf", () => {
  expect(meanOf([1, 0, 0.5])).toBe(0.5);
});
