import { describe, expect, test } from "vitest";
import type { IdleCause } from "../../src/core/telemetry.ts";
import { DeviceClock } from "../../workers/device-clock.ts";

/** A clock told of causes at given times, and of batches as [start, end]. */
function clockAt(): { clock: DeviceClock; at: (ms: number, cause: IdleCause) => void } {
  let nowMs = 0;
  const clock = new DeviceClock(() => nowMs);
  return {
    clock,
    at: (ms, cause) => {
      nowMs = ms;
      clock.waitsFor(cause);
    },
  };
}

describe("DeviceClock", () => {
  test("splits the time before a batch by what was waited for, and counts no time without work", () => {
    const { clock, at } = clockAt();
    at(1000, "loading");
    at(1030, "packing");
    at(1035, "copying");
    const { deviceMs, idleMs, idle } = clock.record({ startedAtMs: 1040, finishedAtMs: 1100 });
    expect(Object.fromEntries(idle)).toEqual({ "queue-empty": 1000, loading: 30, packing: 5, copying: 5 });
    expect([deviceMs, idleMs]).toEqual([60, 40]);
  });

  test("what happens while the device works costs nothing, until it stands still", () => {
    const { clock, at } = clockAt();
    at(10, "copying");
    clock.record({ startedAtMs: 10, finishedAtMs: 50 });
    at(60, "pulling");
    at(70, "committing");
    at(80, "copying");
    clock.record({ startedAtMs: 50, finishedAtMs: 90 });
    at(95, "loading");
    const { idle } = clock.record({ startedAtMs: 100, finishedAtMs: 120 });
    expect(Object.fromEntries(idle)).toEqual({ copying: 5, loading: 5 });
  });

  test("booked late, after causes have moved on, each batch still gets its own gap", () => {
    const { clock, at } = clockAt();
    at(0, "copying");
    at(30, "loading");
    at(35, "copying");
    const first = clock.record({ startedAtMs: 2, finishedAtMs: 20 });
    const second = clock.record({ startedAtMs: 40, finishedAtMs: 60 });
    expect(Object.fromEntries(first.idle)).toEqual({ copying: 2 });
    expect(Object.fromEntries(second.idle)).toEqual({ copying: 15, loading: 5 });
  });
});
