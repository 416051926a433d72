/**
 * Threads that read and tokenise for one producer. The native tokenizer uses all cores by itself; its output must be
 * converted to JavaScript arrays, cut and hashed, for which one thread is fast enough for about four cores.
 */
import { Worker } from "node:worker_threads";
import { FleetError, fromFaultFields, messageOf } from "../../src/core/errors.ts";
import type { Chunker, ChunkedTexts } from "../chunking/chunker.ts";
import type { PartBatch, PartReader, PartReading } from "./read-parts.ts";
import type { CorpusPart } from "./sections.ts";
import {
  type PackedBatch,
  type ThreadReply,
  type ThreadRequest,
  type ThreadSetup,
  unpackBatch,
} from "./producer-messages.ts";

/** Number of batches read ahead; a range of the usual size is read to its end before its first batch is consumed. */
const BATCHES_AHEAD = 8;
const PARTS_AHEAD_PER_THREAD = 2;

type Answer = Extract<ThreadReply, { kind: "batch" | "cut" }>;

interface Pending {
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: FleetError) => void;
}

export class ProducerThreads implements Chunker, PartReader {
  /** One per thread, plus one for the native tokenizer while all threads handle theirs. */
  readonly batchesInFlight: number;
  readonly partsAhead: number;
  readonly #threads: readonly ProducerThread[];

  private constructor(threads: readonly ProducerThread[]) {
    this.#threads = threads;
    this.batchesInFlight = threads.length + 1;
    this.partsAhead = threads.length * PARTS_AHEAD_PER_THREAD;
  }

  /** Starts the threads. @throws FleetError `model_invalid` */
  static async open(params: Readonly<{ threads: number; setup: ThreadSetup }>): Promise<ProducerThreads> {
    const threads = Array.from({ length: params.threads }, () => new ProducerThread(params.setup));
    try {
      await Promise.all(threads.map(({ ready }) => ready));
    } catch (error) {
      await Promise.all(threads.map((thread) => thread.close()));
      throw error;
    }
    return new ProducerThreads(threads);
  }

  cut(texts: readonly string[]): Promise<ChunkedTexts> {
    return this.#leastBusy("cuts").cut(texts);
  }

  read(part: CorpusPart): PartReading {
    return this.#leastBusy("readings").read(part);
  }

  async close(): Promise<void> {
    await Promise.all(this.#threads.map((thread) => thread.close()));
  }

  #leastBusy(kind: "cuts" | "readings"): ProducerThread {
    return this.#threads.reduce((best, thread) => (thread[kind] < best[kind] ? thread : best));
  }
}

class ProducerThread {
  readonly ready: Promise<void>;
  /** Number of requests in flight. */
  cuts = 0;
  readings = 0;
  readonly #worker: Worker;
  readonly #pending = new Map<number, Pending>();
  #nextId = 0;
  #gone: FleetError | null = null;

  constructor(setup: ThreadSetup) {
    const worker = new Worker(new URL("./producer.thread.js", import.meta.url), { workerData: setup });
    this.#worker = worker;
    this.ready = new Promise((resolve, reject) => {
      worker.once("message", (reply: ThreadReply) =>
        reply.kind === "failed" ? reject(fromFaultFields(reply.fault)) : resolve(),
      );
      worker.once("error", (error) => reject(goneBecause(messageOf(error), error)));
      worker.once("exit", () => reject(goneBecause("it ended before it started")));
    });
    this.ready.catch(() => {});
    worker.on("message", (reply: ThreadReply) => this.#receive(reply));
    worker.on("error", (error) => this.#die(goneBecause(messageOf(error), error)));
    worker.on("exit", () => this.#die(goneBecause("it ended")));
  }

  async cut(texts: readonly string[]): Promise<ChunkedTexts> {
    this.cuts++;
    try {
      const answer = await this.#ask((id) => ({ kind: "cut", id, texts }));
      if (answer.kind !== "cut") throw goneBecause(`it answered ${answer.kind}`);
      return answer.cut;
    } finally {
      this.cuts--;
    }
  }

  read(part: CorpusPart): PartReading {
    const reading = this.#nextId++;
    this.readings++;
    this.#post({ kind: "read", reading, part });
    // Started now, not when the first batch is taken: a generator does nothing until then.
    const ahead = Array.from({ length: BATCHES_AHEAD }, () => this.#nextBatch(reading));
    return { batches: this.#batches(reading, ahead), close: async () => this.#close(reading) };
  }

  async *#batches(reading: number, ahead: Promise<PackedBatch | null>[]): AsyncGenerator<PartBatch> {
    for (let batch = await ahead.shift()!; batch !== null; batch = await ahead.shift()!) {
      yield unpackBatch(batch);
      ahead.push(this.#nextBatch(reading));
    }
  }

  #close(reading: number): void {
    this.readings--;
    this.#post({ kind: "close", reading });
  }

  #nextBatch(reading: number): Promise<PackedBatch | null> {
    const batch = this.#ask((id) => ({ kind: "next", id, reading })).then((answer) => {
      if (answer.kind !== "batch") throw goneBecause(`it answered ${answer.kind}`);
      return answer.batch;
    });
    // Awaited in turn; until then, or if reading stops, an error must not count as unhandled.
    batch.catch(() => {});
    return batch;
  }

  #ask(request: (id: number) => ThreadRequest): Promise<Answer> {
    if (this.#gone !== null) return Promise.reject(this.#gone);
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      this.#pending.set(id, { resolve, reject });
      this.#post(request(id));
    });
  }

  #post(request: ThreadRequest): void {
    this.#worker.postMessage(request);
  }

  #receive(reply: ThreadReply): void {
    if (reply.kind === "ready" || (reply.kind === "failed" && reply.id === null)) return;
    const pending = this.#pending.get(reply.id!);
    this.#pending.delete(reply.id!);
    if (reply.kind === "failed") pending?.reject(fromFaultFields(reply.fault));
    else pending?.resolve(reply);
  }

  #die(fault: FleetError): void {
    this.#gone ??= fault;
    for (const { reject } of this.#pending.values()) reject(this.#gone);
    this.#pending.clear();
  }

  async close(): Promise<void> {
    await this.#worker.terminate();
  }
}

function goneBecause(reason: string, cause?: unknown): FleetError {
  return new FleetError("producer_failed", `a producer's thread failed: ${reason}`, {
    cure: "run the same command with the same --run id to continue",
    cause,
  });
}
