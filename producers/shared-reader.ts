/** A corpus whose parts are read by whoever has time, on any machine, and taken from the store in their order. */
import { createHash } from "node:crypto";
import { FleetError, hasCode } from "../src/core/errors.ts";
import { type PartJob, partId, type PartQueue } from "../src/core/ingest.ts";
import { CONTRACT_VERSION } from "../src/core/contracts.ts";
import { runKeys } from "../src/core/layout.ts";
import type { ObjectStore } from "../src/core/ports.ts";
import { decodePiece } from "./part-piece.ts";
import type { PartBatch, PartReader, PartReading } from "./read-parts.ts";
import type { CorpusPart } from "./sources/parts.ts";

/** Of a range: some seconds of work, against which a job's own cost is nothing. */
export const SHARED_PART_BYTES = 32 * 1024 * 1024;
/** Bounds what lies in the store and is not planned yet. */
const PARTS_AHEAD = 64;
const MAX_PIECE_BYTES = 512 * 1024 * 1024;
const POLL_INTERVAL_MS = 200;
const POLLS_PER_CHECK = 10;

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

  constructor(params: SharedReaderParams) {
    this.#params = params;
  }

  read(what: CorpusPart): PartReading {
    const { run, queue } = this.#params;
    const digest = createHash("sha256").update(JSON.stringify(what)).digest("hex");
    const job: PartJob = { v: CONTRACT_VERSION, run, part: partId(this.#parts++, digest), what };
    const added = this.#addUnlessDone(job);
    // Awaited when its turn comes; until then a fault must not count as unhandled.
    added.catch(() => {});
    const progress = { isRead: false };
    const batches = this.#batches(job, added, progress);
    return { batches, close: async () => (progress.isRead ? undefined : queue.remove(job)) };
  }

  async *#batches(job: PartJob, added: Promise<void>, progress: { isRead: boolean }): AsyncGenerator<PartBatch> {
    await added;
    yield* this.#pieces(job);
    progress.isRead = true;
  }

  async #addUnlessDone(job: PartJob): Promise<void> {
    const { store, queue, run } = this.#params;
    if ((await store.stat({ key: runKeys(run).partDone(job.part) })) === null) await queue.add(job);
  }

  async *#pieces(job: PartJob): AsyncGenerator<PartBatch> {
    const { run } = this.#params;
    for (let piece = 0, isLast = false; !isLast; piece++) {
      const batch = decodePiece(await this.#untilThere(job, piece), { run, part: job.part, piece });
      ({ isLast } = batch);
      yield batch;
    }
  }

  async #untilThere(job: PartJob, piece: number): Promise<Uint8Array> {
    const { pollIntervalMs = POLL_INTERVAL_MS, signal } = this.#params;
    for (let poll = 1; ; poll++) {
      signal?.throwIfAborted();
      const found = await this.#find(job, piece);
      if (found !== null) return found;
      if (poll % POLLS_PER_CHECK === 0) await this.#check(job, piece);
      await new Promise((resolve) => setTimeout(resolve, pollIntervalMs));
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

  /** The queue may have been wiped, or have given the part up. */
  async #check(job: PartJob, piece: number): Promise<void> {
    const state = await this.#params.queue.state(job);
    if (state.kind === "failed")
      throw new FleetError(
        "producer_failed",
        `part ${job.part} of the corpus, of ${job.what.name}, failed: ${state.reason}`,
        {
          cure: "mend the cause, and run the same command with the same --run id to continue",
        },
      );
    // A job that is done is gone, and then so is the reason to wait.
    if (state.kind === "unknown" && (await this.#find(job, piece)) === null) await this.#params.queue.add(job);
  }
}
