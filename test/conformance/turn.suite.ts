/** What every `Turn` must do. */
import { describe, expect, onTestFinished, test } from "vitest";
import type { Turn } from "../../src/core/ports.ts";

const LONG_MS = 600_000;
const SHORT_MS = 300;

/** A place for turns that nobody else uses. */
export interface TurnGround {
  /** One more handle, as another process has one. */
  open(): Turn;
  /** At least so long, by the clock that turns go by. */
  pass(ms: number): Promise<void>;
  /** Takes a held turn from its holder, as when its time had passed while the holder's process was held up. */
  forget(name: string): Promise<void>;
}

export function turnSuite(name: string, fresh: () => TurnGround): void {
  describe(name, () => {
    function openTwo(): TurnGround & { mine: Turn; other: Turn } {
      const ground = fresh();
      const open = (): Turn => {
        const turn = ground.open();
        onTestFinished(() => turn.close());
        return turn;
      };
      return { ...ground, open, mine: open(), other: open() };
    }

    test("the turn is the first one's until its time has passed", async () => {
      const { mine, other, pass } = openTwo();
      expect(await mine.take({ durationMs: SHORT_MS })).toBe(true);
      expect(await mine.take({ durationMs: SHORT_MS })).toBe(false);
      expect(await other.take({ durationMs: LONG_MS })).toBe(false);
      await pass(SHORT_MS);
      expect(await other.take({ durationMs: LONG_MS })).toBe(true);
      expect(await mine.take({ durationMs: LONG_MS })).toBe(false);
    });

    test("of those who ask at the same time one gets it", async () => {
      const { open } = openTwo();
      const all = Array.from({ length: 8 }, open);
      const taken = await Promise.all(all.map((turn) => turn.take({ durationMs: LONG_MS })));
      expect(taken.filter(Boolean)).toHaveLength(1);
      const held = await Promise.all(all.map((turn) => turn.hold({ name: "a", durationMs: LONG_MS })));
      expect(held.filter((each) => each !== null)).toHaveLength(1);
    });

    test("a turn that is held is nobody else's until it is released, and others go by other names", async () => {
      const { mine, other } = openTwo();
      const held = await mine.hold({ name: "a", durationMs: LONG_MS });
      expect(held).not.toBeNull();
      expect(await other.hold({ name: "a", durationMs: LONG_MS })).toBeNull();
      expect(await mine.hold({ name: "a", durationMs: LONG_MS })).toBeNull();
      expect(await other.hold({ name: "b", durationMs: LONG_MS })).not.toBeNull();
      expect(await other.take({ durationMs: LONG_MS })).toBe(true);
      await held!.release();
      const next = await other.hold({ name: "a", durationMs: LONG_MS });
      expect(next).not.toBeNull();
      await held!.release();
      expect(await mine.hold({ name: "a", durationMs: LONG_MS })).toBeNull();
    });

    test("what is held by one who is gone is free when its time has passed", async () => {
      const { mine, other, pass } = openTwo();
      await mine.hold({ name: "a", durationMs: SHORT_MS });
      await mine.close();
      await pass(SHORT_MS);
      expect(await other.hold({ name: "a", durationMs: LONG_MS })).not.toBeNull();
    });

    test("who releases too late leaves alone what is another's by then", async () => {
      const { mine, other, forget } = openTwo();
      const late = await mine.hold({ name: "a", durationMs: LONG_MS });
      await forget("a");
      expect(await other.hold({ name: "a", durationMs: LONG_MS })).not.toBeNull();
      await late!.release();
      expect(await mine.hold({ name: "a", durationMs: LONG_MS })).toBeNull();
    });
  });
}
