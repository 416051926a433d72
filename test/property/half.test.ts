import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { fromHalf, toHalf } from "../../src/core/half.ts";

const ALL_HALVES = Uint16Array.from({ length: 2 ** 16 }, (_, half) => half);
const isNaNHalf = (half: number): boolean => (half & 0x7fff) > 0x7c00;

/** The neighbours of a number among all finite halves, by search: slow, and nothing shared with the code. */
const FINITE = [...fromHalf(ALL_HALVES.filter((half) => (half & 0x7fff) < 0x7c00))].sort((a, b) => a - b);

function nearest(value: number): number[] {
  const distance = (half: number): number => Math.abs(half - value);
  let low = 0;
  for (let high = FINITE.length - 1; low < high;) {
    const middle = (low + high) >> 1;
    if (FINITE[middle]! < value) low = middle + 1;
    else high = middle;
  }
  const near = FINITE.slice(Math.max(0, low - 2), low + 2);
  const least = Math.min(...near.map(distance));
  return near.filter((half) => distance(half) === least);
}

describe("halves", () => {
  test("every half becomes the single it stands for, and comes back", () => {
    const singles = fromHalf(ALL_HALVES);
    expect([...fromHalf(Uint16Array.of(0, 0x3c00, 0xc000, 0x7bff, 0x0001, 0x0400))]).toEqual([
      0,
      1,
      -2,
      65_504,
      2 ** -24,
      2 ** -14,
    ]);
    const back = toHalf(singles);
    for (const half of ALL_HALVES) {
      if (isNaNHalf(half)) expect(isNaNHalf(back[half]!)).toBe(true);
      else if (back[half] !== half) expect.fail(`${half} came back as ${back[half]}`);
    }
  });

  test("rounds to the nearest half, and a tie to the even one", () => {
    const single = fc.oneof(
      fc.float({ noNaN: true, noDefaultInfinity: true, min: -65_504, max: 65_504 }),
      fc.float({ noNaN: true, min: Math.fround(-1e-4), max: Math.fround(1e-4) }),
    );
    fc.assert(
      fc.property(single, (value) => {
        const half = toHalf(Float32Array.of(value));
        expect(nearest(value)).toContain(fromHalf(half)[0]);
        if (new Set(nearest(value).map(Math.abs)).size > 1) expect(half[0]! & 1).toBe(0);
      }),
      { numRuns: 2000 },
    );
  });

  test("what is too large is infinite, and what is no number stays none", () => {
    const halves = toHalf(Float32Array.of(65_519, 65_520, -1e30, Infinity, -Infinity, NaN));
    expect([...fromHalf(halves)]).toEqual([65_504, Infinity, -Infinity, Infinity, -Infinity, NaN]);
  });
});
