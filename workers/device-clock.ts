/** What the device does all day: when it works, and why it stands still in between. */
import type { BatchReport } from "../src/core/batch.ts";
import { IDLE_CAUSES, type IdleCause, nowMs } from "../src/core/telemetry.ts";

export interface DeviceTime {
  readonly deviceMs: number;
  /** While the worker had jobs, or was about to: a night without work is not a slow device. */
  readonly idleMs: number;
  /** The same by cause, and `queue-empty` beside it. */
  readonly idle: ReadonlyMap<IdleCause, number>;
}

export class DeviceClock {
  readonly #now: () => number;
  /** What a device that stands still waits for, from when on; the last one holds until told otherwise. */
  readonly #causes: { readonly cause: IdleCause; readonly fromMs: number }[];
  #freeSinceMs: number;

  /** @param now Milliseconds since the epoch, as in `BatchReport`. */
  constructor(now: () => number = nowMs) {
    this.#now = now;
    this.#freeSinceMs = now();
    this.#causes = [{ cause: "queue-empty", fromMs: this.#freeSinceMs }];
  }

  /** Says what the device would be waiting for from now on, were it to stand still. */
  waitsFor(cause: IdleCause): void {
    if (this.#causes.at(-1)!.cause !== cause) this.#causes.push({ cause, fromMs: this.#now() });
  }

  /** Books a batch that has ended: batches are booked in the order in which they ran. */
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
