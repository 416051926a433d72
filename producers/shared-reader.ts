/** A corpus whose parts are read by whoever has time, on any machine, and taken from the store in their order. */
import { createHash } from "node:crypto";
import { FleetError, hasCode } from "../src/core/errors.ts";
import { type PartJob, partId, type PartQueue } from "../src/core/ingest.ts";
import { CONTRACT_VERSION } from "../src/core/contracts.ts";
import { runKeys } from "../src/core/layout.ts";
import type { ObjectStore } from "../src/core/ports.ts";
import { assertNotCancelled } from "../src/run/cancelled.ts";
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
  /** Begun, and not read to their end. */
  readonly #begun = new Set<PartJob>();
  /** Parts that were made again because what was made of them was damaged or lost. */
  readonly #madeAgain = new Set<PartJob>();

  constructor(params: SharedReaderParams) {
    this.#params = params;
  }

  read(what: CorpusPart): PartReading {
    const { run, queue } = this.#params;
    const digest = createHash("sha256").update(JSON.stringify(what)).digest("hex");
    const job: PartJob = { v: CONTRACT_VERSION, run, part: partId(this.#parts++, digest), what };
    this.#begun.add(job);
    const added = this.#addUnlessDone(job);
    // Awaited when its turn comes; until then a fault must not count as unhandled.
    added.catch(() => {});
    const close = async (): Promise<void> => {
      // What was read to its end is no job any more.
      if (this.#begun.delete(job)) await queue.remove(job);
    };
    return { batches: this.#batches(job, added), close };
  }

  async *#batches(job: PartJob, added: Promise<void>): AsyncGenerator<PartBatch> {
    await added;
    for (let piece = 0, isLast = false; !isLast; piece++) {
      const batch = await this.#read(job, piece);
      ({ isLast } = batch);
      yield batch;
    }
    this.#begun.delete(job);
  }

  async #addUnlessDone(job: PartJob): Promise<void> {
    if (!(await this.#isDone(job))) await this.#params.queue.add(job);
  }

  async #isDone(job: PartJob): Promise<boolean> {
    const { store, run } = this.#params;
    return (await store.stat({ key: runKeys(run).partDone(job.part) })) !== null;
  }

  /** Waits for it. */
  async #read(job: PartJob, piece: number): Promise<ReturnType<typeof decodePiece>> {
    const { run } = this.#params;
    for (;;) {
      const bytes = await this.#untilThere(job, piece);
      try {
        return decodePiece(bytes, { run, part: job.part, piece });
      } catch (error) {
        if (!hasCode(error, "object_corrupt")) throw error;
        await this.#makeAgain(job, piece, error);
      }
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

  /** The queue may have been wiped, or have given the part up; and pieces may be lost. */
  async #check(job: PartJob, piece: number): Promise<void> {
    const { store, queue, run } = this.#params;
    await assertNotCancelled(store, run);
    const state = await queue.state(job);
    if (state.kind === "failed")
      throw new FleetError(
        "producer_failed",
        `part ${job.part} of the corpus, of ${job.what.name}, failed: ${state.reason}`,
        {
          cure: "mend the cause, and run the same command with the same --run id to continue",
        },
      );
    if (state.kind !== "unknown") return;
    // Looked at before the piece: of a part that was done by then, the piece was there too.
    const isDone = await this.#isDone(job);
    // A job that is done is gone, and then so is the reason to wait.
    if ((await this.#find(job, piece)) !== null) return;
    if (isDone) await this.#makeAgain(job, piece);
    // Where one is lost, the others may be; and whoever helps would wait for each in turn.
    else for (const each of this.#begun) await this.#addUnlessDone(each);
  }

  /** Once: what is damaged or gone again is no accident. */
  async #makeAgain(job: PartJob, piece: number, damage?: FleetError): Promise<void> {
    const { store, queue, run } = this.#params;
    const key = runKeys(run).partPiece(job.part, piece);
    if (this.#madeAgain.has(job))
      throw (
        damage ??
        new FleetError("producer_failed", `${store.url}/${key} is gone, and was gone before`, {
          cure: "let nothing else remove objects there, and run the same command with the same --run id to continue",
        })
      );
    this.#madeAgain.add(job);
    await store.remove({ key: runKeys(run).partDone(job.part) });
    await store.remove({ key });
    await queue.add(job);
  }
}
