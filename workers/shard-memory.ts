import { MemoryPool } from "../src/core/memory-pool.ts";

/** Pools of buffers for a worker's shards. */
export interface ShardMemory {
  /**
   * Ids and vectors. V8 does not count shared buffers as memory: dropped ones would stay until something else triggers
   * a collection, in the worker's thread and in the device's, and a worker with large shards would exceed its
   * budget many times over. So all of them are kept.
   */
  readonly shards: MemoryPool<SharedArrayBuffer>;
  /** Result files, and their numbers in half precision: one is written while the next is made. */
  readonly files: MemoryPool<ArrayBuffer>;
}

export function openShardMemory(): ShardMemory {
  return {
    shards: new MemoryPool({ allocate: (bytes) => new SharedArrayBuffer(bytes) }),
    files: new MemoryPool({ allocate: (bytes) => new ArrayBuffer(bytes), maxFree: 3 }),
  };
}
