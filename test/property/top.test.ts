/** The heap against sorting everything. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { Top } from "../../src/results/top.ts";

test("Top keeps what a full sort would put first, each key once with its best score", () => {
  const offers = fc.array(
    fc.record({ key: fc.integer({ min: 0, max: 40 }).map(String), score: fc.integer({ min: -9, max: 9 }) }),
  );
  fc.assert(
    fc.property(offers, fc.integer({ min: 1, max: 20 }), (offered, limit) => {
      const top = new Top<number>(limit);
      offered.forEach(({ key, score }, i) => top.offer(score, key, () => i));
      const best = new Map<string, number>();
      for (const { key, score } of offered) best.set(key, Math.max(score, best.get(key) ?? -Infinity));
      const ranked = top.ranked();
      expect(ranked.map((each) => each.score)).toEqual([...best.values()].toSorted((a, b) => b - a).slice(0, limit));
      expect(new Set(ranked.map((each) => each.key)).size).toBe(ranked.length);
      for (const { key, score, value } of ranked) {
        expect(score).toBe(best.get(key));
        expect(offered[value]).toEqual({ key, score });
      }
    }),
    { numRuns: 500 },
  );
});

test("of equal scores the first offered is kept and comes first, and values are made only when kept", () => {
  const top = new Top<string>(2);
  let made = 0;
  for (const key of ["a", "b", "c", "d"]) top.offer(1, key, () => `${key}${++made}`);
  expect(top.ranked().map((each) => each.value)).toEqual(["a1", "b2"]);
});
