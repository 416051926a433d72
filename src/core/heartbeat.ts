/**
 * A heartbeat shared by the threads of one process: one thread can renew leases for the others while they are blocked by
 * a long operation, and stops when they hang.
 */

/** Slots of the shared memory, in nanoseconds of the monotonic clock. */
const LOOP_TURNED = 0;
/** Zero while no batch is on the device. */
const DEVICE_OWES_SINCE = 1;

export interface HeartbeatParams {
  /** Longest time in milliseconds without a beat that still counts as work. */
  readonly maxSilentMs: number;
  /** Memory of a heartbeat that another thread created. */
  readonly shared?: SharedArrayBuffer;
}

export class Heartbeat {
  readonly maxSilentMs: number;
  readonly shared: SharedArrayBuffer;
  readonly #times: BigInt64Array;

  constructor(params: Readonly<HeartbeatParams>) {
    this.maxSilentMs = params.maxSilentMs;
    this.shared = params.shared ?? new SharedArrayBuffer(2 * BigInt64Array.BYTES_PER_ELEMENT);
    this.#times = new BigInt64Array(this.shared);
    if (params.shared === undefined) this.loopTurned();
  }

  /** Called by the main thread, from time to time. */
  loopTurned(): void {
    Atomics.store(this.#times, LOOP_TURNED, process.hrtime.bigint());
  }

  /** Called when the device gets its first batch, and at each result while others are still on it. */
  deviceWorks(): void {
    Atomics.store(this.#times, DEVICE_OWES_SINCE, process.hrtime.bigint());
  }

  deviceRests(): void {
    Atomics.store(this.#times, DEVICE_OWES_SINCE, 0n);
  }

  /** Milliseconds since the last beat of the main thread or of a busy device, whichever is longer. */
  get silentMs(): number {
    const turned = Atomics.load(this.#times, LOOP_TURNED);
    const owes = Atomics.load(this.#times, DEVICE_OWES_SINCE);
    const since = owes === 0n || turned < owes ? turned : owes;
    return Number(process.hrtime.bigint() - since) / 1e6;
  }

  get isAlive(): boolean {
    return this.silentMs <= this.maxSilentMs;
  }
}
