/** Smaller wants take as much: what comes back then fits more of them. */
const LEAST_BYTES = 64 * 1024;

export interface MemoryPoolParams<Memory> {
  /** What is never touched is never in memory, so a size is rounded up. */
  readonly allocate: (bytes: number) => Memory;
  /** How many wait for their next use; others are left to the garbage collector. No limit by default. */
  readonly maxFree?: number;
}

/**
 * Memory that is used again and again. A page of new memory costs several times what it costs to write to one that the
 * process has (1.1 against 7 GB/s where it was measured), so large buffers of a kind that comes often are kept.
 */
export class MemoryPool<Memory extends ArrayBufferLike> {
  readonly #params: MemoryPoolParams<Memory>;
  readonly #free: Memory[] = [];

  constructor(params: MemoryPoolParams<Memory>) {
    this.#params = params;
  }

  /** @returns At least so many bytes, with whatever their last user left in them. */
  take(bytes: number): Memory {
    const bySize = this.#free.sort((a, b) => a.byteLength - b.byteLength);
    const fitting = bySize.findIndex(({ byteLength }) => byteLength >= bytes);
    if (fitting !== -1) return bySize.splice(fitting, 1)[0]!;
    // The largest gives way to a larger one, so that there are never more than were in use at one time.
    bySize.pop();
    return this.#params.allocate(Math.max(LEAST_BYTES, 2 ** Math.ceil(Math.log2(bytes))));
  }

  /** Only when nobody reads or writes it any more. */
  give(memory: Memory): void {
    if (this.#free.length < (this.#params.maxFree ?? Infinity)) this.#free.push(memory);
  }
}
