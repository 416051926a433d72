/** Computes when a schedule's ticks are due. Pure: the time is always a parameter. */
import { CronExpressionParser } from "cron-parser";
import { FleetError, messageOf } from "../../core/errors.ts";

export interface Cron {
  readonly cron: string;
  /** IANA name of the pattern's time zone. */
  readonly tz: string;
}

const DAY_MS = 24 * 60 * 60 * 1000;
/** A period in which every pattern more frequent than monthly has a tick, and few have many. */
const FIRST_LOOK_BACK_MS = 2 * DAY_MS;
const COUNTED_TICKS = 500;
const FIELDS = "minute hour day-of-month month day-of-week";

/** @throws FleetError `bad_usage` for an invalid pattern or time zone. */
export function assertCron(when: Cron, nowMs: number): void {
  assertZone(when.tz);
  const fields = when.cron.trim().split(/\s+/).length;
  if (!when.cron.startsWith("@") && fields !== 5 && fields !== 6) {
    throw badCron(when.cron, `has ${fields} fields`, `give five: ${FIELDS}, as in "0 2 * * *"`);
  }
  try {
    nextSlot(when, nowMs);
  } catch (error) {
    throw badCron(when.cron, `is invalid or never due: ${messageOf(error)}`, `the fields are ${FIELDS}`);
  }
}

function assertZone(tz: string): void {
  try {
    new Intl.DateTimeFormat("en", { timeZone: tz }).format(0);
  } catch (cause) {
    throw new FleetError("bad_usage", `there is no time zone ${JSON.stringify(tz)}`, {
      cure: "use a name of the IANA database, such as Europe/Helsinki or UTC",
      cause,
    });
  }
}

function badCron(cron: string, problem: string, cure: string): FleetError {
  return new FleetError("bad_usage", `the cron pattern ${JSON.stringify(cron)} ${problem}`, { cure });
}

/** The first tick after an instant. @throws Error when there is none. */
export function nextSlot(when: Cron, afterMs: number): number {
  return CronExpressionParser.parse(when.cron, { tz: when.tz, currentDate: new Date(afterMs) })
    .next()
    .getTime();
}

/**
 * The last tick due after `floorMs` and not after `nowMs`: several missed ticks become one. Null when none
 * is due. Searches forward only: where clocks are set back, a backward search finds other instants.
 */
export function dueSlot(when: Cron, floorMs: number, nowMs: number): number | null {
  const near = Math.max(floorMs, nowMs - FIRST_LOOK_BACK_MS);
  return lastBetween(when, near, nowMs) ?? (near === floorMs ? null : lastBetween(when, floorMs, nowMs));
}

/** A pattern with a tick each second has 172,800 in two days, which would take most of a minute to count. */
function lastBetween(when: Cron, afterMs: number, nowMs: number): number | null {
  const expression = CronExpressionParser.parse(when.cron, { tz: when.tz, currentDate: new Date(afterMs) });
  let last: number | null = null;
  for (let ticks = 0; expression.hasNext(); ticks++) {
    const slot = expression.next().getTime();
    if (slot > nowMs) return last;
    if (ticks === COUNTED_TICKS) {
      const middleMs = Math.floor((afterMs + nowMs) / 2);
      return lastBetween(when, middleMs, nowMs) ?? lastBetween(when, afterMs, middleMs);
    }
    last = slot;
  }
  return last;
}
