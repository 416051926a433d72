/** A corpus whose parts are read by several machines, and taken from the store in their order. */
import { setTimeout as sleep } from "node:timers/promises";
import { FleetError, hasCode } from "../../src/core/errors.ts";
import { MAX_PART_OBJECTS, type PartJob, type PartQueue } from "../../src/core/ingest.ts";
import { runKeys } from "../../src/core/layout.ts";
import type { ObjectStore } from "../../src/core/ports.ts";
import { assertNotCancelled } from "../../src/run/cancelled.ts";
import { createSame } from "../../src/run/create-same.ts";
import { type OfferedPart, offerOf } from "./part-job.ts";
import { decodePiece } from "./part-piece.ts";
import type { PartBatch, PartReader, PartReading } from "./read-parts.ts";
import type { CutHow } from "./parts.ts";
import type { CorpusPart } from "./sections.ts";

/**
 * Parts of some seconds of work, against which a job's own cost is negligible. Whole files are pinned, too: other
 * processes may find another one under the name, or none.
 */
export const SHARED_CUT: CutHow = { partBytes: 32 * 1024 * 1024, partObjects: MAX_PART_OBJECTS, pinsAll: true };
/** Parts started ahead of the plan; limits the pieces in the store that are not planned yet. */
const PARTS_AHEAD = 64;
const MAX_PIECE_BYTES = 512 * 1024 * 1024;
const POLL_INTERVAL_MS = 200;
const POLLS_PER_CHECK = 10;
const DAMAGED_RECORD = "it was changed after it was written; remove it, and run enqueue again with the same --run id";

export interface SharedReaderParams {
  readonly store: ObjectStore;
  readonly queue: PartQueue;
  readonly run: string;
  readonly pollIntervalMs?: number;
  readonly signal?: AbortSignal | undefined;
}

export class SharedReader implements PartReader {
  readonly partsAhead = PARTS_AHEAD;
  readonly #params: SharedReaderParams;
  #parts = 0;
  /** Parts that are started and not read to their end. */
  readonly #begun = new Set<OfferedPart>();
  /** Parts that were made again because their pieces were damaged or lost. */
  readonly #madeAgain = new Set<PartJob>();

  constructor(params: SharedReaderParams) {
    this.#params = params;
  }

  read(what: CorpusPart): PartReading {
    const { run, queue } = this.#params;
    const offered = offerOf(what, run, this.#parts++);
    this.#begun.add(offered);
    const added = this.#addUnlessDone(offered);
    // Awaited in its turn; until then an error must not count as unhandled.
    added.catch(() => {});
    const close = async (): Promise<void> => {
      // A part that was read to its end is no longer a job.
      if (!this.#begun.delete(offered)) return;
      // Otherwise it might be added after everything of a cancelled run was removed.
      await Promise.allSettled([added]);
      await queue.remove(offered.job);
    };
    return { batches: this.#batches(offered, added), close };
  }

  async *#batches(offered: OfferedPart, added: Promise<void>): AsyncGenerator<PartBatch> {
    await added;
    for (let piece = 0, isLast = false; !isLast; piece++) {
      const batch = await this.#read(offered, piece);
      ({ isLast } = batch);
      yield batch;
    }
    this.#begun.delete(offered);
  }

  async #addUnlessDone(offered: OfferedPart): Promise<void> {
    if (!(await this.#isDone(offered.job))) await this.#add(offered);
  }

  async #add({ job, record }: OfferedPart): Promise<void> {
    const { store, queue, run } = this.#params;
    await createSame(store, { key: runKeys(run).partRecord(job.part), body: record, cure: DAMAGED_RECORD });
    await queue.add(job);
  }

  async #isDone(job: PartJob): Promise<boolean> {
    const { store, run } = this.#params;
    return (await store.stat({ key: runKeys(run).partDone(job.part) })) !== null;
  }

  /** Reads a piece, waiting until it exists. */
  async #read(offered: OfferedPart, piece: number): Promise<ReturnType<typeof decodePiece>> {
    const { job } = offered;
    const { run } = this.#params;
    for (;;) {
      const bytes = await this.#untilThere(offered, piece);
      try {
        return decodePiece(bytes, { run, part: job.part, piece });
      } catch (error) {
        if (!hasCode(error, "object_corrupt")) throw error;
        await this.#makeAgain(offered, piece, error);
      }
    }
  }

  async #untilThere(offered: OfferedPart, piece: number): Promise<Uint8Array> {
    const { pollIntervalMs = POLL_INTERVAL_MS, signal } = this.#params;
    for (let poll = 1; ; poll++) {
      signal?.throwIfAborted();
      const found = await this.#find(offered.job, piece);
      if (found !== null) return found;
      if (poll % POLLS_PER_CHECK === 0) await this.#check(offered, piece);
      await sleep(pollIntervalMs);
    }
  }

  async #find(job: PartJob, piece: number): Promise<Uint8Array | null> {
    const { store, run } = this.#params;
    try {
      return await store.read({ key: runKeys(run).partPiece(job.part, piece), maxBytes: MAX_PIECE_BYTES });
    } catch (error) {
      if (hasCode(error, "object_missing")) return null;
      throw error;
    }
  }

  /** Restores what was lost: the queue may have been wiped, or have given up the part; and pieces may be lost. */
  async #check(offered: OfferedPart, piece: number): Promise<void> {
    const { job, name } = offered;
    const { store, queue, run } = this.#params;
    await assertNotCancelled(store, run);
    const state = await queue.state(job);
    if (state.kind === "failed")
      throw new FleetError("producer_failed", `part ${job.part} of the corpus, of ${name}, failed: ${state.reason}`, {
        cure: "fix the cause, and run the same command with the same --run id to continue",
      });
    if (state.kind !== "unknown") return;
    // Checked before the piece: if the part was done by then, the piece existed too.
    const isDone = await this.#isDone(job);
    // A finished job is removed, and then so is the reason to wait.
    if ((await this.#find(job, piece)) !== null) return;
    if (isDone) await this.#makeAgain(offered, piece);
    // If one is lost, the others may be, and the helpers would wait for each in turn.
    else for (const each of this.#begun) await this.#addUnlessDone(each);
  }

  /** Done once per part: repeated damage or loss is not an accident. */
  async #makeAgain(offered: OfferedPart, piece: number, damage?: FleetError): Promise<void> {
    const { job } = offered;
    const { store, run } = this.#params;
    const key = runKeys(run).partPiece(job.part, piece);
    if (this.#madeAgain.has(job))
      throw (
        damage ??
        new FleetError("producer_failed", `${store.url}/${key} is missing, and was missing before`, {
          cure: "make sure that nothing else removes objects there, and run the same command with the same --run id to continue",
        })
      );
    this.#madeAgain.add(job);
    await store.remove({ key: runKeys(run).partDone(job.part) });
    await store.remove({ key });
    await this.#add(offered);
  }
}
