/** Memory that a worker's shards occupy: those in progress, and those whose files are being written. */
import type { ShardBuffers } from "../src/core/batch.ts";
import type { HeldShard } from "./held-shard.ts";

/** Number of commits that may be in flight at any size: one file is written while the next is made. */
const MIN_COMMITS_IN_FLIGHT = 2;
/** Share for loaded shards; a quarter is left for files, or the device would wait for each of them. */
const LOADED_SHARE = 0.75;

export interface MemoryBudgetParams {
  /** Maximum bytes for all shards, vectors and files included. A larger shard is processed alone. */
  readonly maxBytes: number;
  readonly held: ReadonlyMap<ShardBuffers, HeldShard>;
  readonly commits: ReadonlyMap<HeldShard, Promise<void>>;
}

export class MemoryBudget {
  readonly #params: MemoryBudgetParams;

  constructor(params: MemoryBudgetParams) {
    this.#params = params;
  }

  get bytes(): number {
    const { held, commits } = this.#params;
    let bytes = 0;
    for (const shard of held.values()) bytes += shard.bytes;
    // A file takes about as much memory as its arrays.
    for (const shard of commits.keys()) bytes += 2 * shard.bytes;
    return bytes;
  }

  /** Bytes for shards to be loaded; negative when the budget is exceeded. */
  get leftBytes(): number {
    return LOADED_SHARE * this.#params.maxBytes - this.bytes;
  }

  /** Whether no shard may be loaded now. When none is loaded, one may be, of any size. */
  get isFull(): boolean {
    const { held, commits } = this.#params;
    return held.size + commits.size > 0 && this.leftBytes <= 0;
  }

  /** Whether files must be written before the device may produce more. */
  get isCongested(): boolean {
    const { commits, maxBytes } = this.#params;
    return commits.size >= MIN_COMMITS_IN_FLIGHT && this.bytes >= maxBytes;
  }
}
