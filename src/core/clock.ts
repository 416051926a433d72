/** The clock that components use. It is passed in, so that a simulation can have its own. */
import { setTimeout as sleep } from "node:timers/promises";
import { nowMs } from "./telemetry.ts";

/** Time as the worker sees it. */
export interface Clock {
  /** Milliseconds since 1970, with fractions; never decreases. */
  nowMs(): number;
  /** Resolves after so many milliseconds. */
  sleep(ms: number): Promise<void>;
}

/** This machine's clock. */
export const systemClock: Clock = { nowMs, sleep: (ms) => sleep(ms) };
