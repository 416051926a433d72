/** Time as a part of the fleet knows it. It is passed in, so that a simulation can have a clock of its own. */
import { setTimeout as sleep } from "node:timers/promises";
import { nowMs } from "./telemetry.ts";

export interface Clock {
  /** Milliseconds since 1970, with fractions; it never goes back. */
  nowMs(): number;
  sleep(ms: number): Promise<void>;
}

/** This machine's. */
export const systemClock: Clock = { nowMs, sleep: (ms) => sleep(ms) };
