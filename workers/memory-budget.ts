/** How much of a worker's memory its shards take: those it works on, and those whose files are being written. */
import type { ShardBuffers } from "../src/core/batch.ts";
import type { HeldShard } from "./held-shard.ts";

/** So many commits may be in flight whatever their size: one file is written while the next is made. */
const MIN_COMMITS_IN_FLIGHT = 2;
/** What is loaded leaves a quarter of the memory to files, or the device would wait for each of them. */
const LOADED_SHARE = 0.75;

export interface MemoryBudgetParams {
  /** What all shards may take, vectors and files included. One that is larger comes alone. */
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
    // A file takes about as much as the arrays that it is made of.
    for (const shard of commits.keys()) bytes += 2 * shard.bytes;
    return bytes;
  }

  /** For shards to be loaded; less than nothing where too much is there. */
  get leftBytes(): number {
    return LOADED_SHARE * this.#params.maxBytes - this.bytes;
  }

  /** Whether no shard may be loaded now. Where there is none, one may, however large. */
  get isFull(): boolean {
    const { held, commits } = this.#params;
    return held.size + commits.size > 0 && this.leftBytes <= 0;
  }

  /** Whether files have to be written before the device may make more of them. */
  get isCongested(): boolean {
    const { commits, maxBytes } = this.#params;
    return commits.size >= MIN_COMMITS_IN_FLIGHT && this.bytes >= maxBytes;
  }
}
