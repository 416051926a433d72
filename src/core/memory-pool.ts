/** Smallest allocation; smaller requests are rounded up, so that a returned buffer fits more of them. */
const LEAST_BYTES = 64 * 1024;

export interface MemoryPoolParams<Memory> {
  /** Allocates memory. Untouched pages cost no memory, so a size is rounded up. */
  readonly allocate: (bytes: number) => Memory;
  /** Most free buffers that are kept; others are left to the garbage collector. No limit by default. */
  readonly maxFree?: number;
}

/**
 * A pool of reusable memory. Writing to pages already mapped is several times faster than mapping new ones (measured: 7
 * against 1.1 GB/s), so large buffers of frequent kinds are kept.
 */
export class MemoryPool<Memory extends ArrayBufferLike> {
  readonly #params: MemoryPoolParams<Memory>;
  readonly #free: Memory[] = [];

  constructor(params: MemoryPoolParams<Memory>) {
    this.#params = params;
  }

  /** @returns At least so many bytes, with any content. */
  take(bytes: number): Memory {
    const bySize = this.#free.sort((a, b) => a.byteLength - b.byteLength);
    const fitting = bySize.findIndex(({ byteLength }) => byteLength >= bytes);
    if (fitting !== -1) return bySize.splice(fitting, 1)[0]!;
    // The largest is dropped for a larger one, so that there are never more buffers than were in use at one time.
    bySize.pop();
    return this.#params.allocate(Math.max(LEAST_BYTES, 2 ** Math.ceil(Math.log2(bytes))));
  }

  /** Returns memory to the pool; nobody may read or write it any more. */
  give(memory: Memory): void {
    if (this.#free.length < (this.#params.maxFree ?? Infinity)) this.#free.push(memory);
  }
}
