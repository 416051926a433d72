/** What every `Presence` must do. */
import { describe, expect, onTestFinished, test } from "vitest";
import type { Presence } from "../../src/core/ports.ts";

/** A place that nobody else uses. */
export interface PresenceGround {
  /** One more handle, as another process has one. */
  open(): Presence;
  /** Takes a name's report away, as when its process died and its time has passed. */
  lapse(name: string): Promise<void>;
  /** Puts something into a name's report that is none. */
  damage(name: string): Promise<void>;
}

export function presenceSuite(name: string, fresh: () => PresenceGround): void {
  describe(name, () => {
    function openTwo(): PresenceGround & { one: Presence; other: Presence } {
      const ground = fresh();
      const open = (): Presence => {
        const presence = ground.open();
        onTestFinished(() => presence.close());
        return presence;
      };
      return { ...ground, open, one: open(), other: open() };
    }

    test("who announces itself is seen with what it reports, and who withdraws is not", async () => {
      const { one, other } = openTwo();
      expect(await one.present()).toEqual([]);
      expect(await one.states()).toEqual(new Map());
      await one.announce("one", () => ({ says: "hello" }));
      await other.announce("other");
      expect((await other.present()).toSorted()).toEqual(["one", "other"]);
      const states = new Map<string, unknown>([
        ["one", { says: "hello" }],
        ["other", null],
      ]);
      expect(await other.states()).toEqual(states);
      await one.withdraw("one");
      await one.withdraw("nobody");
      expect(await other.present()).toEqual(["other"]);
    });

    test("the names that a process announced go when it closes, and no others", async () => {
      const { open, other } = openTwo();
      const leaving = open();
      await Promise.all([leaving.announce("a"), leaving.announce("b"), other.announce("c")]);
      await leaving.close();
      expect(await other.present()).toEqual(["c"]);
    });

    test("one that died is seen by nobody when its time has passed", async () => {
      const { one, other, lapse } = openTwo();
      await Promise.all([one.announce("one"), other.announce("other")]);
      await lapse("one");
      expect(await other.present()).toEqual(["other"]);
    });

    test("one whose report cannot be read is there all the same", async () => {
      const { one, other, damage } = openTwo();
      await one.announce("one", () => ({ says: "hello" }));
      await damage("one");
      expect(await other.states()).toEqual(new Map([["one", null]]));
    });
  });
}
