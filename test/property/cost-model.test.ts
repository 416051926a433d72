import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  type BatchShape,
  type CostModel,
  type CostSample,
  fitCostModel,
  predictMs,
} from "../../src/core/cost-model.ts";
import { roundedLength } from "../../src/core/shapes.ts";

const SHAPES: BatchShape[] = [64, 256, 1024, 4096].flatMap((area) =>
  [64, 256, 1024].filter((length) => length <= area).map((length) => ({ rows: area / length, length })),
);
const costArbitrary: fc.Arbitrary<CostModel> = fc.record({
  batchMs: fc.double({ min: 0.01, max: 50, noNaN: true }),
  tokenMs: fc.double({ min: 0.001, max: 1, noNaN: true }),
  pairMs: fc.double({ min: 1e-6, max: 1e-3, noNaN: true }),
});
const noiseArbitrary = fc.array(fc.double({ min: 0.8, max: 1.25, noNaN: true }), {
  minLength: SHAPES.length,
  maxLength: SHAPES.length,
});

/** What the fit minimises. */
function errorOf(model: CostModel, samples: readonly CostSample[]): number {
  return samples.reduce((sum, sample) => sum + (predictMs(model, sample) / sample.ms - 1) ** 2, 0);
}

describe("fitCostModel", () => {
  test("finds the device behind exact times", () => {
    fc.assert(
      fc.property(costArbitrary, (device) => {
        const fitted = fitCostModel(SHAPES.map((shape) => ({ ...shape, ms: predictMs(device, shape) })))!;
        for (const shape of SHAPES) expect(predictMs(fitted, shape) / predictMs(device, shape)).toBeCloseTo(1, 4);
      }),
    );
  });

  test("never has a negative part, whatever the noise, and is as near to the times it was given as the device itself", () => {
    fc.assert(
      fc.property(costArbitrary, noiseArbitrary, (device, noise) => {
        const samples = SHAPES.map((shape, i) => ({ ...shape, ms: predictMs(device, shape) * noise[i]! }));
        const fitted = fitCostModel(samples);
        // Noise can hide what tokens cost where a batch costs far more; then there is no opinion.
        fc.pre(fitted !== null);
        expect(Math.min(fitted.batchMs, fitted.tokenMs, fitted.pairMs)).toBeGreaterThanOrEqual(0);
        // The device itself is one of the models that the fit chooses from.
        expect(errorOf(fitted, samples)).toBeLessThanOrEqual(errorOf(device, samples) + 1e-6);
      }),
    );
  });

  test("has no opinion without samples", () => {
    expect(fitCostModel([])).toBeNull();
  });

  test("takes a single sample as time in proportion to tokens", () => {
    const fitted = fitCostModel([{ rows: 1, length: 64, ms: 6.4 }]);
    expect(predictMs(fitted!, { rows: 1, length: 64 })).toBeCloseTo(6.4);
  });
});

describe("roundedLength", () => {
  test("is never below the longest row, never above the model's limit, adds little, and stays when repeated", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 8192 }), (longest) => {
        const rounded = roundedLength(longest, 8192);
        expect(rounded).toBeGreaterThanOrEqual(longest);
        expect(rounded).toBeLessThanOrEqual(8192);
        expect(rounded - longest).toBeLessThanOrEqual(longest / 32);
        expect(roundedLength(rounded, 8192)).toBe(rounded);
      }),
    );
  });

  test("knows a few hundred lengths, and none between neighbours that are out of order", () => {
    const rounded = Array.from({ length: 8192 }, (_, i) => roundedLength(i + 1, 8192));
    expect(new Set(rounded).size).toBeLessThanOrEqual(300);
    expect(rounded).toEqual(rounded.toSorted((a, b) => a - b));
    expect(roundedLength(8190, 8190)).toBe(8190);
  });
});
