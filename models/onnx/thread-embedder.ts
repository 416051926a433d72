/** A model on a device, behind threads of its own. One per process, because sessions leak when they are recreated. */
import { createRequire } from "node:module";
import { MessageChannel, Worker } from "node:worker_threads";
import type { BatchReport, RowRef } from "../../src/core/batch.ts";
import type { Precision } from "../../src/core/contracts.ts";
import { CPU, type Device, deviceName } from "../../src/core/device-name.ts";
import { FleetError, fromFaultFields, messageOf } from "../../src/core/errors.ts";
import { DEFAULT_PACKING } from "../../src/core/packing.ts";
import type { Embedder } from "../../src/core/ports.ts";
import type { OpenParams } from "../engine.ts";
import { type OnnxManifest, onnxManifestOf } from "../registry/manifest.ts";
import { paddedLengthOf, type SessionParams } from "./session-params.ts";
import { type InferenceThreadData, type ScatterThreadData, type ThreadReply, toRequest } from "./session-messages.ts";
import { type Engine, gpuArchOf, usableEngines } from "./tensorrt-tiers.ts";

export function sessionParams({
  model,
  threads,
  device = CPU,
  maxBatchTokens = DEFAULT_PACKING.maxBatchTokens,
}: OpenParams): SessionParams {
  const { folder, weightsPath, files, ref, precision } = model;
  const manifest = onnxManifestOf(model.manifest);
  const engines = device.kind === "tensorrt" ? enginesFor(manifest, precision, device) : [];
  return {
    manifest,
    folder,
    weightsPath,
    modelSha256: ref.sha256,
    files,
    device,
    threads,
    maxBatchTokens,
    engines,
  };
}

function enginesFor(manifest: OnnxManifest, precision: Precision, device: Device): Engine[] {
  const { version } = createRequire(import.meta.url)("onnxruntime-node/package.json") as { version: string };
  return usableEngines(manifest, { gpuArch: gpuArchOf(device.index), ortVersion: version, precision });
}

interface Pending {
  readonly resolve: (report: BatchReport) => void;
  readonly reject: (error: unknown) => void;
}

export class ThreadEmbedder implements Embedder {
  readonly device: string;
  /** Deviations from what was asked for when the model was loaded, one line each. */
  readonly notes: readonly string[];
  readonly #session: SessionParams;
  readonly #threads: Threads;
  readonly #pending = new Map<number, Pending>();
  #nextId = 0;
  #dead: FleetError | null = null;

  private constructor(params: Readonly<{ threads: Threads; session: SessionParams; notes: readonly string[] }>) {
    const { threads, session, notes } = params;
    this.device = deviceName(session.device);
    this.notes = notes;
    this.#session = session;
    this.#threads = threads;
    for (const [name, thread] of Object.entries(threads) as [keyof Threads, Worker][]) {
      thread.on("message", (message: ThreadReply) => this.#receive(message));
      thread.on("error", (error) => this.#die(`the ${name} thread failed: ${messageOf(error)}`, error));
      thread.on("exit", () => this.#die(`the ${name} thread exited`));
    }
  }

  /**
   * Loads the model and returns once it accepts batches.
   * @throws FleetError `model_invalid`
   */
  static async open(params: OpenParams): Promise<ThreadEmbedder> {
    const session = sessionParams(params);
    const threads = startThreads(session);
    const notes = await new Promise<readonly string[]>((resolve, reject) => {
      threads.inference.once("message", (message: ThreadReply) =>
        message.kind === "ready" ? resolve(message.notes) : reject(toError(message)),
      );
      for (const thread of Object.values(threads)) thread.once("error", reject);
    }).catch(async (error: unknown) => {
      await endThreads(threads);
      throw error;
    });
    for (const thread of Object.values(threads)) thread.removeAllListeners("error");
    return new ThreadEmbedder({ threads, session, notes });
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
      this.#threads.inference.postMessage(request);
    });
  }

  #receive(message: ThreadReply): void {
    if (message.kind === "ready" || message.id === null) return;
    const pending = this.#pending.get(message.id);
    this.#pending.delete(message.id);
    if (message.kind === "done") pending?.resolve(message.report);
    else pending?.reject(toError(message));
  }

  #die(reason: string, cause?: unknown): void {
    this.#dead ??= new FleetError("inference_failed", reason, { cause });
    for (const { reject } of this.#pending.values()) reject(this.#dead);
    this.#pending.clear();
  }

  async close(): Promise<void> {
    await endThreads(this.#threads);
  }
}

/** One thread runs the session while the other scatters its outputs to their rows. */
type Threads = Readonly<Record<"inference" | "scatter", Worker>>;

function startThreads(session: SessionParams): Threads {
  const { port1: toScatter, port2: fromInference } = new MessageChannel();
  const inference: InferenceThreadData = { session, toScatter };
  const scatter: ScatterThreadData = { manifest: session.manifest, fromInference };
  return {
    inference: new Worker(new URL("./inference.thread.js", import.meta.url), {
      workerData: inference,
      transferList: [toScatter],
    }),
    scatter: new Worker(new URL("./scatter.thread.js", import.meta.url), {
      workerData: scatter,
      transferList: [fromInference],
    }),
  };
}

async function endThreads(threads: Threads): Promise<void> {
  await Promise.all(Object.values(threads).map((thread) => thread.terminate()));
}

function toError(message: ThreadReply): FleetError {
  if (message.kind !== "failed")
    return new FleetError("inference_failed", `the inference thread answered ${message.kind}`);
  return fromFaultFields(message.fault);
}
