/** A model on a device, behind a thread of its own. Sessions leak when cycled: one per process. */
import { createRequire } from "node:module";
import { Worker } from "node:worker_threads";
import type { BatchReport, RowRef, ShardBuffers } from "../src/core/batch.ts";
import { type ErrorCode, FleetError, messageOf } from "../src/core/errors.ts";
import { DEFAULT_PACKING } from "../src/core/packing.ts";
import type { Embedder } from "../src/core/ports.ts";
import type { BatchRequest, ThreadReply } from "./inference.thread.ts";
import type { Model } from "./open-model.ts";
import { CPU, type Device, deviceName } from "./device.ts";
import { paddedLengthOf, type SessionParams } from "./session.ts";
import { type Engine, gpuArchOf, usableEngines } from "./tiers.ts";

/** What to load, and where. */
export interface OpenParams {
  readonly model: Model;
  readonly threads: number;
  /** The CPU when left out. */
  readonly device?: Device;
  /** Padded area of the largest batch to come. */
  readonly maxBatchTokens?: number;
}

export function sessionParams({
  model,
  threads,
  device = CPU,
  maxBatchTokens = DEFAULT_PACKING.maxBatchTokens,
}: OpenParams): SessionParams {
  const { manifest, folder, weightsPath } = model;
  const engines = device.kind === "tensorrt" ? enginesFor(model, device) : [];
  return { manifest, folder, weightsPath, device, threads, maxBatchTokens, engines };
}

function enginesFor({ manifest, precision }: Model, device: Device): Engine[] {
  const { version } = createRequire(import.meta.url)("onnxruntime-node/package.json") as { version: string };
  return usableEngines(manifest, { gpuArch: gpuArchOf(device.index), ortVersion: version, precision });
}

interface Pending {
  readonly resolve: (report: BatchReport) => void;
  readonly reject: (error: unknown) => void;
}

export class ThreadEmbedder implements Embedder {
  readonly device: string;
  /** What did not go as asked when the model was loaded, one line each. */
  readonly notes: readonly string[];
  readonly #session: SessionParams;
  readonly #thread: Worker;
  readonly #pending = new Map<number, Pending>();
  #nextId = 0;
  #dead: FleetError | null = null;

  private constructor(params: Readonly<{ thread: Worker; session: SessionParams; notes: readonly string[] }>) {
    const { thread, session, notes } = params;
    this.device = deviceName(session.device);
    this.notes = notes;
    this.#session = session;
    this.#thread = thread;
    thread.on("message", (message: ThreadReply) => this.#receive(message));
    thread.on("error", (error) => this.#die(messageOf(error), error));
    thread.on("exit", () => this.#die("it ended"));
  }

  /**
   * Loads the model and returns once it can take batches.
   * @throws FleetError `model_invalid`
   */
  static async open(params: OpenParams): Promise<ThreadEmbedder> {
    const session = sessionParams(params);
    const thread = new Worker(new URL("./inference.thread.js", import.meta.url), { workerData: session });
    const notes = await new Promise<readonly string[]>((resolve, reject) => {
      thread.once("message", (message: ThreadReply) =>
        message.kind === "ready" ? resolve(message.notes) : reject(toError(message)),
      );
      thread.once("error", reject);
    }).catch(async (error: unknown) => {
      await thread.terminate();
      throw error;
    });
    thread.removeAllListeners("error");
    return new ThreadEmbedder({ thread, session, notes });
  }

  paddedLength(longest: number): number {
    return paddedLengthOf(this.#session, longest);
  }

  embed(params: Readonly<{ rows: readonly RowRef[] }>): Promise<BatchReport> {
    if (this.#dead !== null) return Promise.reject(this.#dead);
    const id = this.#nextId++;
    const request = toRequest(id, params.rows);
    return new Promise((resolve, reject) => {
      this.#pending.set(id, { resolve, reject });
      this.#thread.postMessage(request);
    });
  }

  #receive(message: ThreadReply): void {
    if (message.kind === "ready" || message.id === null) return;
    const pending = this.#pending.get(message.id);
    this.#pending.delete(message.id);
    if (message.kind === "done") {
      pending?.resolve({ startedAtMs: message.startedAtMs, finishedAtMs: message.finishedAtMs });
    } else pending?.reject(toError(message));
  }

  #die(reason: string, cause?: unknown): void {
    this.#dead ??= new FleetError("inference_failed", `the inference thread is gone: ${reason}`, { cause });
    for (const { reject } of this.#pending.values()) reject(this.#dead);
    this.#pending.clear();
  }

  async close(): Promise<void> {
    await this.#thread.terminate();
  }
}

function toRequest(id: number, rows: readonly RowRef[]): BatchRequest {
  const places = new Map<ShardBuffers, number>();
  const shardOf = new Uint32Array(rows.length);
  rows.forEach(({ shard }, i) => {
    if (!places.has(shard)) places.set(shard, places.size);
    shardOf[i] = places.get(shard)!;
  });
  return { id, shards: [...places.keys()], shardOf, rowOf: Uint32Array.from(rows, ({ row }) => row) };
}

function toError(message: ThreadReply): FleetError {
  if (message.kind !== "failed")
    return new FleetError("inference_failed", `the inference thread answered ${message.kind}`);
  return new FleetError(
    message.code as ErrorCode,
    message.message,
    message.cure === undefined ? {} : { cure: message.cure },
  );
}
