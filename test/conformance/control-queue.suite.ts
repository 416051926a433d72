/** What every `ControlQueue` must do. */
import { describe, expect, onTestFinished, test } from "vitest";
import type { ControlQueue, Tick, TickHandlers } from "../../src/core/ports.ts";

const NIGHTLY = { cron: "0 2 * * *", tz: "Europe/Helsinki" };
const WAIT = { timeout: 30_000, interval: 20 };
const SLOT_MS = Date.parse("2026-11-24T00:00:00Z");

function tick(schedule: string, slotMs = SLOT_MS): Tick {
  return { schedule, slotMs, isTriggered: true };
}

/** @param fresh Opens handles on a place that nobody else uses. */
export function controlQueueSuite(name: string, fresh: () => () => ControlQueue): void {
  describe(name, () => {
    function openTwo(): [ControlQueue, ControlQueue] {
      const open = fresh();
      const both = [open(), open()] as const;
      for (const queue of both) onTestFinished(() => queue.close());
      return [...both];
    }

    test("schedules are kept until they are dropped, whoever keeps them", async () => {
      const [queue, other] = openTwo();
      await Promise.all([queue.keep({ name: "a", ...NIGHTLY }), other.keep({ name: "b", ...NIGHTLY })]);
      await other.keep({ name: "a", ...NIGHTLY });
      await other.keep({ name: "a", ...NIGHTLY, cron: "0 3 * * *" });
      expect((await queue.kept()).toSorted()).toEqual(["a", "b"]);
      await queue.drop("a");
      await queue.drop("a");
      expect(await other.kept()).toEqual(["b"]);
    });

    test("a tick that was added waits, once, and is worked on by one", async () => {
      const [queue, other] = openTwo();
      await Promise.all([queue.add(tick("a")), other.add(tick("a")), other.add(tick("b"))]);
      const pending = await queue.pending(SLOT_MS);
      expect(pending.toSorted((a, b) => (a.schedule < b.schedule ? -1 : 1))).toEqual([tick("a"), tick("b")]);
      expect(await queue.pending(SLOT_MS - 1)).toEqual([]);
      const seen: Tick[] = [];
      const handlers: TickHandlers = {
        onTick: async (each) => {
          seen.push(each);
          return { kind: "done" };
        },
        onGivenUp: async () => {},
      };
      await Promise.all([queue.work(handlers), other.work(handlers)]);
      await expect.poll(() => queue.pending(SLOT_MS), WAIT).toEqual([]);
      expect(seen.map(({ schedule }) => schedule).toSorted()).toEqual(["a", "b"]);
    });

    test("a tick put off comes again, and one that failed does not", async () => {
      const [queue] = openTwo();
      const seen: string[] = [];
      await queue.work({
        onTick: async ({ schedule }) => {
          seen.push(schedule);
          if (schedule === "bad") return { kind: "failed", reason: "for good" };
          return seen.filter((each) => each === schedule).length < 2 ? { kind: "later", waitMs: 10 } : { kind: "done" };
        },
        onGivenUp: async () => {},
      });
      await Promise.all([queue.add(tick("bad")), queue.add(tick("later"))]);
      await expect.poll(() => seen.length, WAIT).toBe(3);
      await expect.poll(() => queue.pending(SLOT_MS), WAIT).toEqual([]);
      expect(seen.toSorted()).toEqual(["bad", "later", "later"]);
    });
  });
}
