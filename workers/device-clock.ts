/** Measures when the device is busy, and why it is idle in between. */
import type { BatchReport } from "../src/core/batch.ts";
import { IDLE_CAUSES, type IdleCause, nowMs } from "../src/core/telemetry.ts";

export interface DeviceTime {
  readonly deviceMs: number;
  /** Idle milliseconds while the worker had or expected jobs: a night without work does not make a device slow. */
  readonly idleMs: number;
  /** The same by cause, plus `queue-empty`. */
  readonly idle: ReadonlyMap<IdleCause, number>;
}

export class DeviceClock {
  readonly #now: () => number;
  /** Reasons for an idle device, with their start; the last one holds until changed. */
  readonly #causes: { readonly cause: IdleCause; readonly fromMs: number }[];
  #freeSinceMs: number;

  /** @param now Returns milliseconds since the epoch, as in `BatchReport`. */
  constructor(now: () => number = nowMs) {
    this.#now = now;
    this.#freeSinceMs = now();
    this.#causes = [{ cause: "queue-empty", fromMs: this.#freeSinceMs }];
  }

  /** Sets the reason for which the device would be idle from now on. */
  waitsFor(cause: IdleCause): void {
    if (this.#causes.at(-1)!.cause !== cause) this.#causes.push({ cause, fromMs: this.#now() });
  }

  /** Records a finished batch; batches are recorded in the order in which they ran. */
  record(report: BatchReport): DeviceTime {
    const { startedAtMs, finishedAtMs } = report;
    const idle = new Map<IdleCause, number>();
    for (const [i, { cause, fromMs }] of this.#causes.entries()) {
      const untilMs = Math.min(this.#causes[i + 1]?.fromMs ?? Infinity, startedAtMs);
      const ms = untilMs - Math.max(fromMs, this.#freeSinceMs);
      if (ms > 0) idle.set(cause, (idle.get(cause) ?? 0) + ms);
    }
    this.#freeSinceMs = Math.max(finishedAtMs, this.#freeSinceMs);
    const current = this.#causes.findLastIndex(({ fromMs }) => fromMs <= this.#freeSinceMs);
    this.#causes.splice(0, Math.max(current, 0));
    return { deviceMs: finishedAtMs - startedAtMs, idleMs: sumOfCauses(idle), idle };
  }
}

function sumOfCauses(idle: ReadonlyMap<IdleCause, number>): number {
  return IDLE_CAUSES.reduce((sum, cause) => sum + (cause === "queue-empty" ? 0 : (idle.get(cause) ?? 0)), 0);
}
