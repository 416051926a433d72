import { MemoryPool } from "../src/core/memory-pool.ts";

/** What a worker's shards are made in, one after another. */
export interface ShardMemory {
  /**
   * Ids and vectors. V8 does not count shared buffers as memory: those that are dropped would stay until something else
   * makes it collect, in the worker's thread and in the device's, and a worker of large shards would hold many times
   * what it was allowed. So all of them are kept.
   */
  readonly shards: MemoryPool<SharedArrayBuffer>;
  /** Result files, and their numbers in half precision: while one is written the next is made. */
  readonly files: MemoryPool<ArrayBuffer>;
}

export function openShardMemory(): ShardMemory {
  return {
    shards: new MemoryPool({ allocate: (bytes) => new SharedArrayBuffer(bytes) }),
    files: new MemoryPool({ allocate: (bytes) => new ArrayBuffer(bytes), maxFree: 3 }),
  };
}
