/** Busy time of each worker's device, in slots of equal time over a run. */

const SLOTS = 120;
const MAX_WORKERS = 40;
const FINEST_SLOT_MS = 250;

export interface Worked {
  readonly worker: string;
  /** Start of the first batch and end of the last, in milliseconds since the epoch. */
  readonly firstBatchAtMs: number;
  readonly lastBatchAtMs: number;
  /** Milliseconds of that time that the device spent on this shard. */
  readonly deviceMs: number;
}

export interface Busy {
  readonly startMs: number;
  readonly slotMs: number;
  /** Fraction of each slot in which the device was busy, 0 to 1, per worker. */
  readonly workers: readonly { readonly worker: string; readonly busy: readonly number[] }[];
  /** Number of workers beyond those shown. */
  readonly more: number;
}

export class Timeline {
  readonly #worked: Worked[] = [];

  add(worked: Worked): void {
    this.#worked.push(worked);
  }

  /** Null when no shard records when it was made. */
  busy(): Busy | null {
    if (this.#worked.length === 0) return null;
    let startMs = Infinity;
    let endMs = -Infinity;
    for (const { firstBatchAtMs, lastBatchAtMs } of this.#worked) {
      startMs = Math.min(startMs, firstBatchAtMs);
      endMs = Math.max(endMs, lastBatchAtMs);
    }
    const slotMs = Math.max((endMs - startMs) / SLOTS, FINEST_SLOT_MS);
    const slots = Math.max(1, Math.ceil((endMs - startMs) / slotMs));
    const byWorker = new Map<string, Float64Array>();
    for (const worked of this.#worked) {
      const busyMs = byWorker.get(worked.worker) ?? new Float64Array(slots);
      byWorker.set(worked.worker, busyMs);
      spread(worked, { startMs, slotMs }, busyMs);
    }
    const workers = [...byWorker].sort(([a], [b]) => (a < b ? -1 : 1));
    return {
      startMs,
      slotMs,
      workers: workers.slice(0, MAX_WORKERS).map(([worker, busyMs]) => ({
        worker,
        busy: Array.from(busyMs, (ms) => Math.min(1, Math.round((ms / slotMs) * 1000) / 1000)),
      })),
      more: Math.max(0, workers.length - MAX_WORKERS),
    };
  }
}

/** Spreads a shard's device time evenly over the time from its first batch to its last. */
function spread(worked: Worked, grid: Readonly<{ startMs: number; slotMs: number }>, busyMs: Float64Array): void {
  const from = (worked.firstBatchAtMs - grid.startMs) / grid.slotMs;
  const to = Math.max((worked.lastBatchAtMs - grid.startMs) / grid.slotMs, from + 1e-6);
  for (let slot = Math.floor(from); slot < Math.min(busyMs.length, Math.ceil(to)); slot++) {
    const share = (Math.min(to, slot + 1) - Math.max(from, slot)) / (to - from);
    busyMs[slot]! += worked.deviceMs * share;
  }
}
