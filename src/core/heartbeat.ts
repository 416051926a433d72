/**
 * Signs of life that the threads of one process share, so that one of them can vouch for the others while
 * they are held up by something long, and stops vouching when they are held up for good.
 */

/** Slots of the shared memory, in nanoseconds of the system's steady clock. */
const LOOP_TURNED = 0;
/** Zero while the device owes no answer. */
const DEVICE_OWES_SINCE = 1;

export interface HeartbeatParams {
  /** Longest time without a sign of life that still counts as work. */
  readonly maxSilentMs: number;
  /** The memory of the heartbeat that another thread made. */
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

  /** Said by the main thread, from time to time. */
  loopTurned(): void {
    Atomics.store(this.#times, LOOP_TURNED, process.hrtime.bigint());
  }

  /** Said when the device gets its first batch, and at each answer while others are still with it. */
  deviceWorks(): void {
    Atomics.store(this.#times, DEVICE_OWES_SINCE, process.hrtime.bigint());
  }

  deviceRests(): void {
    Atomics.store(this.#times, DEVICE_OWES_SINCE, 0n);
  }

  /** Since the last sign of life of whatever has been silent longer: the main thread or a working device. */
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
