/** The report's timeline: device time lands in the slots in which it was spent, and none is lost. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { Timeline } from "../../src/report/timeline.ts";

test("two workers, each in its own time", () => {
  const timeline = new Timeline();
  timeline.add({ worker: "b", firstBatchAtMs: 0, lastBatchAtMs: 60_000, deviceMs: 60_000 });
  timeline.add({ worker: "a", firstBatchAtMs: 60_000, lastBatchAtMs: 120_000, deviceMs: 30_000 });
  const busy = timeline.busy()!;
  expect(busy).toMatchObject({ startMs: 0, slotMs: 1000, more: 0 });
  expect(busy.workers.map(({ worker }) => worker)).toEqual(["a", "b"]);
  expect(busy.workers[0]!.busy).toEqual([
    ...Array.from({ length: 60 }, () => 0),
    ...Array.from({ length: 60 }, () => 0.5),
  ]);
  expect(busy.workers[1]!.busy).toEqual([
    ...Array.from({ length: 60 }, () => 1),
    ...Array.from({ length: 60 }, () => 0),
  ]);
});

test("nothing is known of shards that do not say when they were made", () => {
  expect(new Timeline().busy()).toBeNull();
});

test("no device time is lost, whatever the shards", () => {
  const worked = fc.record({
    worker: fc.constantFrom("a", "b", "c"),
    firstBatchAtMs: fc.integer({ min: 0, max: 1e6 }),
    tookMs: fc.integer({ min: 0, max: 1e5 }),
    share: fc.double({ min: 0, max: 1, noNaN: true }),
  });
  fc.assert(
    fc.property(fc.uniqueArray(worked, { selector: ({ worker }) => worker, minLength: 1 }), (shards) => {
      const timeline = new Timeline();
      for (const { worker, firstBatchAtMs, tookMs, share } of shards)
        timeline.add({ worker, firstBatchAtMs, lastBatchAtMs: firstBatchAtMs + tookMs, deviceMs: tookMs * share });
      const { slotMs, workers } = timeline.busy()!;
      for (const { worker, busy } of workers) {
        const { tookMs, share } = shards.find((each) => each.worker === worker)!;
        const shown = busy.reduce((sum, value) => sum + value * slotMs, 0);
        expect(Math.abs(shown - tookMs * share)).toBeLessThanOrEqual(0.0006 * slotMs * busy.length);
        for (const value of busy) expect(value).toBeLessThanOrEqual(1);
      }
    }),
  );
});
