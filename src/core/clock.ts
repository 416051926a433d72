/** The clock that components use. It is passed in, so that a simulation can have its own. */
import { setTimeout as sleep } from "node:timers/promises";
import { nowMs } from "./telemetry.ts";

export interface Clock {
  /** Milliseconds since 1970, with fractions; never decreases. */
  nowMs(): number;
  sleep(ms: number): Promise<void>;
}

/** This machine's clock. */
export const systemClock: Clock = { nowMs, sleep: (ms) => sleep(ms) };
