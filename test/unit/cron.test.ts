/** When ticks are due: clocks that are changed in both directions, missed ticks, and patterns that cannot be meant. */
import { expect, test } from "vitest";
import { assertCron, dueSlot, nextSlot } from "../../src/control/schedules/cron.ts";

const HELSINKI = "Europe/Helsinki";
const DAY_MS = 86_400_000;

function slotsBetween(cron: string, from: string, to: string): string[] {
  const slots: string[] = [];
  let at = Date.parse(from);
  for (;;) {
    at = nextSlot({ cron, tz: HELSINKI }, at);
    if (at > Date.parse(to)) return slots;
    slots.push(new Date(at).toISOString());
  }
}

/** A control process with a clock of its own, that asks every ten minutes what is due since the last tick it took. */
function ticksOfAClock(cron: string, from: string, to: string): string[] {
  const taken: string[] = [];
  let floor = Date.parse(from);
  for (let now = floor; now <= Date.parse(to); now += 600_000) {
    const slot = dueSlot({ cron, tz: HELSINKI }, floor, now);
    if (slot === null) continue;
    taken.push(new Date(slot).toISOString());
    floor = slot;
  }
  return taken;
}

// In 2026 Helsinki's clocks go from 03:00 to 04:00 on 29 March and from 04:00 back to 03:00 on 25 October, both 01:00 UTC.
test.each([
  ["02:00", "0 2 * * *", "2026-03-28T12:00:00Z", ["2026-03-29T00:00:00.000Z", "2026-03-29T23:00:00.000Z"]],
  ["04:30", "30 4 * * *", "2026-03-28T12:00:00Z", ["2026-03-29T01:30:00.000Z", "2026-03-30T01:30:00.000Z"]],
  ["02:00", "0 2 * * *", "2026-10-24T12:00:00Z", ["2026-10-24T23:00:00.000Z", "2026-10-26T00:00:00.000Z"]],
  ["04:30", "30 4 * * *", "2026-10-24T12:00:00Z", ["2026-10-25T02:30:00.000Z", "2026-10-26T02:30:00.000Z"]],
])("%s beside a change of clocks is due once a day, at the local time (%s, from %s)", (_, cron, from, slots) => {
  const to = new Date(Date.parse(from) + 2 * DAY_MS).toISOString();
  expect(slotsBetween(cron, from, to)).toEqual(slots);
  expect(ticksOfAClock(cron, from, to)).toEqual(slots);
});

test("a local time that is skipped in spring is due once all the same", () => {
  const [from, to] = ["2026-03-28T12:00:00Z", "2026-03-30T12:00:00Z"];
  const slots = slotsBetween("30 3 * * *", from, to);
  expect(slots).toHaveLength(2);
  expect(slots[0]).toMatch(/^2026-03-29T0[01]:/);
  expect(slots[1]).toBe("2026-03-30T00:30:00.000Z");
  expect(ticksOfAClock("30 3 * * *", from, to)).toEqual(slots);
});

test("a local time that comes twice in autumn is due once", () => {
  const [from, to] = ["2026-10-24T12:00:00Z", "2026-10-26T12:00:00Z"];
  const slots = slotsBetween("30 3 * * *", from, to);
  expect(slots).toHaveLength(2);
  expect(slots[0]).toMatch(/^2026-10-25T0[01]:30/);
  expect(slots[1]).toBe("2026-10-26T01:30:00.000Z");
  expect(ticksOfAClock("30 3 * * *", from, to)).toEqual(slots);
});

test("missed ticks come to the last of them, however long nobody looked", () => {
  const daily = { cron: "0 2 * * *", tz: "UTC" };
  const floor = Date.parse("2026-11-01T02:00:00Z");
  expect(dueSlot(daily, floor, Date.parse("2026-11-02T01:59:59Z"))).toBeNull();
  expect(dueSlot(daily, floor, Date.parse("2026-11-02T02:00:00Z"))).toBe(Date.parse("2026-11-02T02:00:00Z"));
  expect(dueSlot(daily, floor, Date.parse("2027-03-09T12:00:00Z"))).toBe(Date.parse("2027-03-09T02:00:00Z"));
  const yearly = { cron: "0 0 1 1 *", tz: "UTC" };
  expect(dueSlot(yearly, floor, Date.parse("2027-03-09T12:00:00Z"))).toBe(Date.parse("2027-01-01T00:00:00Z"));
});

test.each([
  ["0 2 * *", "UTC", /4 fields/, /"0 2 \* \* \*"/],
  ["99 2 * * *", "UTC", /99 2/, /minute hour/],
  ["every night", "UTC", /2 fields/, /minute hour/],
  ["0 0 31 2 *", "UTC", /never due/, /minute hour/],
  ["0 2 * * *", "Europe/Helsingfors-Nord", /no time zone "Europe\/Helsingfors-Nord"/, /Europe\/Helsinki/],
])("%s in %s is refused with the cure", (cron, tz, message, cure) => {
  expect(() => assertCron({ cron, tz }, Date.parse("2026-11-24T00:00:00Z"))).toThrow(
    expect.objectContaining({
      code: "bad_usage",
      message: expect.stringMatching(message),
      cure: expect.stringMatching(cure),
    }),
  );
});

test.each(["0 2 * * *", "*/15 * * * *", "0 2 * * MON-FRI", "0 0 29 2 *", "@daily"])("%s is understood", (cron) => {
  expect(() => assertCron({ cron, tz: HELSINKI }, Date.parse("2026-11-24T00:00:00Z"))).not.toThrow();
});

test("a pattern of every second is not counted through: the last tick of years is found at once", () => {
  const now = Date.parse("2026-11-24T23:30:00Z");
  const floor = Date.parse("1970-01-01T00:00:00Z");
  const startedMs = performance.now();
  expect(dueSlot({ cron: "* * * * * *", tz: "UTC" }, floor, now)).toBe(now);
  expect(dueSlot({ cron: "* * 0-22 * * *", tz: "UTC" }, floor, now)).toBe(Date.parse("2026-11-24T22:59:59Z"));
  expect(dueSlot({ cron: "* * * 1 1 *", tz: "UTC" }, floor, now)).toBe(Date.parse("2026-01-01T23:59:59Z"));
  expect(performance.now() - startedMs).toBeLessThan(15_000);
});
