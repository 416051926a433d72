/**
 * Shared memory that shards use one after another. V8 does not count shared buffers as memory: those that are dropped
 * would stay until something else makes it collect, in the worker's thread and in the device's, and a worker of large
 * shards would hold many times what it was allowed.
 */
const LEAST_BYTES = 64 * 1024;

export class ShardMemory {
  readonly #free: SharedArrayBuffer[] = [];

  /** @returns At least so many bytes, with whatever the last shard left in them. */
  take(bytes: number): SharedArrayBuffer {
    const bySize = this.#free.sort((a, b) => a.byteLength - b.byteLength);
    const fitting = bySize.findIndex(({ byteLength }) => byteLength >= bytes);
    if (fitting !== -1) return bySize.splice(fitting, 1)[0]!;
    // The largest gives way to a larger one, so that there are never more than shards were held at one time.
    bySize.pop();
    // What is never touched is never in memory.
    return new SharedArrayBuffer(Math.max(LEAST_BYTES, 2 ** Math.ceil(Math.log2(bytes))));
  }

  /** Only when nobody reads or writes it any more. */
  give(memory: SharedArrayBuffer): void {
    this.#free.push(memory);
  }
}
