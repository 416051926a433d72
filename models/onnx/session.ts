/** One model on one device: rows in, the outputs of their padded batch out. */
import { relative, sep } from "node:path";
import { InferenceSession } from "onnxruntime-node";
import {
  allocateShard,
  type BatchReport,
  type RowRef,
  rowLength,
  type ShardBuffers,
  wantedHeads,
} from "../../src/core/batch.ts";
import type { Head } from "../../src/core/contracts.ts";
import { FleetError, messageOf } from "../../src/core/errors.ts";
import { nowMs } from "../../src/core/telemetry.ts";
import { type Device, deviceName } from "../../src/core/device-name.ts";
import { cudaOf, providersOf } from "./device.ts";
import { fromHalf } from "../../src/core/half.ts";
import { type BatchOutputs, Scatterer } from "./scatter.ts";
import { assertListed } from "../graph/graph-files.ts";
import type { GraphValue } from "../graph/graph-signature.ts";
import { assertSignature } from "../registry/check-signature.ts";
import { BatchFeeds } from "./feeds.ts";
import { HiddenHeads } from "./hidden-heads.ts";
import type { HiddenStates } from "./pooling.ts";
import { cosine, givesSame, notUsed, openTiers, testRows, type Tier } from "./tensorrt-engines.ts";
import { loadPinned } from "../registry/pinned-files.ts";
import { paddedLengthOf, type SessionParams } from "./session-params.ts";
import { chooseTier } from "./tensorrt-tiers.ts";

/** Messages of the runtime that mean that memory is short, on a CPU and on CUDA. */
const OUT_OF_MEMORY =
  /out of memory|bad.?alloc|failed to allocate memory|CUDA_ERROR_OUT_OF_MEMORY|available memory of/i;
const WARM_UP_TOKENS = 16;
const TYPICAL_TOKENS = 512;
/** Least cosine of a vector made by the graph and one made from the same hidden states here, in any precision. */
const SAME_VECTORS = 0.999;

/** A batch that the device has computed. */
export interface Computed {
  readonly report: BatchReport;
  /** Views of the runtime's memory. */
  readonly outputs: BatchOutputs;
  /** Frees that memory. */
  readonly release: () => void;
}

export class ModelSession {
  /** Deviations from what was asked for, one line each. */
  readonly notes: string[];
  readonly #session: InferenceSession;
  #tiers: readonly Tier[];
  readonly #params: SessionParams;
  readonly #hidden: HiddenHeads;
  readonly #scatterer: Scatterer;
  readonly #feeds: BatchFeeds;

  private constructor(
    params: SessionParams,
    made: Readonly<{
      session: InferenceSession;
      tiers: readonly Tier[];
      hidden: HiddenHeads;
      notes: readonly string[];
    }>,
  ) {
    this.notes = [...made.notes];
    this.#session = made.session;
    this.#tiers = made.tiers;
    this.#params = params;
    this.#hidden = made.hidden;
    this.#feeds = new BatchFeeds(params.manifest, made.session.inputMetadata);
    this.#scatterer = new Scatterer(params.manifest);
  }

  /**
   * Loads the graph, checks it against the manifest and warms the device up.
   * @throws FleetError `model_invalid` when the file cannot be loaded or does not match the manifest.
   */
  static async open(params: SessionParams): Promise<ModelSession> {
    const opened = await loadPinned(params.files, () => ModelSession.#load(params));
    await opened.#assertSameVectors();
    await opened.#dropStrangers();
    await opened.#warmUp();
    return opened;
  }

  static async #load(params: SessionParams): Promise<ModelSession> {
    const { manifest, folder, weightsPath, files, device, threads } = params;
    const [graph, ...listed] = [weightsPath, ...files.map(({ path }) => path)].map((path) =>
      relative(folder, path).replaceAll(sep, "/"),
    );
    assertListed({ folder, graph: graph!, listed });
    const options: InferenceSession.SessionOptions = {
      executionProviders: providersOf(device.kind === "tensorrt" ? cudaOf(device) : device),
      graphOptimizationLevel: "all",
      intraOpNumThreads: threads,
      interOpNumThreads: 1,
      logSeverityLevel: 3,
    };
    const session = await InferenceSession.create(weightsPath, options).catch((error: unknown) => {
      throw notLoaded(weightsPath, device, error);
    });
    assertGraph(session, params);
    const hidden = await HiddenHeads.open({ manifest, folder, options });
    const { tiers, notes } = await openTiers(params, options);
    return new ModelSession(params, { session, tiers, hidden, notes });
  }

  /** Computes a batch and scatters its outputs, one after the other. */
  async run(rows: readonly RowRef[], tiers = this.#tiers): Promise<BatchReport> {
    const { report, outputs, release } = await this.compute(rows, tiers);
    this.#scatterer.scatter(rows, outputs);
    release();
    return report;
  }

  /** Computes a batch. @throws FleetError `device_memory`, `inference_failed` */
  async compute(rows: readonly RowRef[], tiers = this.#tiers): Promise<Computed> {
    const heads = wantedHeads(rows);
    const lengths = rows.map(rowLength);
    const longest = paddedLengthOf(this.#params, Math.max(...lengths));
    const feeds = this.#feeds.of(rows, longest);
    const names = [...new Set(heads.map((head) => this.#params.manifest.heads[head]!.output))];
    const startedAtMs = nowMs();
    const tier = chooseTier(tiers, { batch: rows.length, length: longest });
    const session = tiers[tier]?.session ?? this.#session;
    const tensors = await session.run(feeds, names).catch((error: unknown) => {
      throw notRun(rows.length, longest, error);
    });
    const made = new Map<Head, Float32Array | Uint16Array>();
    const hidden = new Map<string, Float32Array>();
    for (const head of heads) made.set(head, await this.#finish(head, { tensors, hidden, lengths, longest }));
    const release = (): void => Object.values(tensors).forEach((tensor) => tensor.dispose());
    return { report: { startedAtMs, finishedAtMs: nowMs() }, outputs: { longest, heads: made }, release };
  }

  async #finish(head: Head, batch: UnfinishedBatch): Promise<Float32Array | Uint16Array> {
    const { output, finished } = this.#params.manifest.heads[head]!;
    if (!finished) return this.#hidden.finish(head, this.#statesOf(output, batch));
    const { dim } = this.#params.manifest;
    const { dims } = batch.tensors[output]!;
    if (head === "dense" && (dims.length !== 2 || dims[1]! < dim)) throw this.#unlike(output, dims, `rows of ${dim}`);
    return valuesOf(batch.tensors[output]!);
  }

  #statesOf(output: string, { tensors, hidden, lengths, longest }: UnfinishedBatch): HiddenStates {
    const { hiddenSize } = this.#params.manifest.architecture;
    const { dims } = tensors[output]!;
    const batch = lengths.length;
    if (dims.join() !== [batch, longest, hiddenSize].join())
      throw this.#unlike(output, dims, `${batch} x ${longest} x ${hiddenSize}`);
    const values = valuesOf(tensors[output]!);
    const singles = hidden.get(output) ?? (values instanceof Uint16Array ? fromHalf(values) : values);
    hidden.set(output, singles);
    return { values: singles, batch, lengths, longest };
  }

  #unlike(output: string, dims: readonly number[], expected: string): FleetError {
    const { weightsPath, manifest } = this.#params;
    return new FleetError(
      "model_invalid",
      `the output ${output} of ${weightsPath} is ${dims.join(" x ")} for a batch; model ${manifest.id} needs ${expected}`,
      { cure: "fix the model's manifest.json, or export the model again" },
    );
  }

  /** A graph that ends with the vector must make it as the model's modules do. */
  async #assertSameVectors(): Promise<void> {
    const { manifest, weightsPath } = this.#params;
    const { dense } = manifest.heads;
    if (dense?.finished !== true || dense.from === undefined) return;
    const { maxTokens } = manifest.architecture;
    const shape = { batch: 2, length: Math.min(WARM_UP_TOKENS, maxTokens) };
    const shard = testRows(manifest, { min: shape, max: shape });
    const rows = [0, 1].map((row) => ({ shard, row }));
    const tensors = await this.#session.run(this.#feeds.of(rows, shape.length), [dense.output, dense.from.output]);
    const lengths = rows.map(rowLength);
    const states = this.#statesOf(dense.from.output, { tensors, hidden: new Map(), lengths, longest: shape.length });
    const made = await this.#hidden.dense(states);
    this.#scatterer.scatter(rows, {
      longest: shape.length,
      heads: new Map([["dense", valuesOf(tensors[dense.output]!)]]),
    });
    const similarity = cosine(made, shard.dense!);
    if (similarity >= SAME_VECTORS) return;
    throw new FleetError(
      "model_invalid",
      `the output ${dense.output} of ${weightsPath} is not what the model's modules make of ${dense.from.output}: their cosine is ${similarity.toFixed(3)}`,
      {
        cure: "export the model again, or add a manifest.json that says which output is the vector: see docs/models.md",
      },
    );
  }

  /** Drops engines compiled from other weights than the graph's: they would load and compute different vectors. */
  async #dropStrangers(): Promise<void> {
    const { manifest, folder } = this.#params;
    const kept: Tier[] = [];
    for (const tier of this.#tiers) {
      const [engine, graph] = [testRows(manifest, tier), testRows(manifest, tier)];
      const rows = (shard: ShardBuffers): RowRef[] =>
        Array.from({ length: tier.min.batch }, (_, row) => ({ shard, row }));
      const failure = await this.run(rows(engine), [tier]).then(() => null, messageOf);
      await this.run(rows(graph), []);
      if (failure === null && givesSame(engine, graph, tier)) kept.push(tier);
      else this.notes.push(notUsed(folder, tier, failure ?? "its vectors are not those of the model's graph"));
    }
    this.#tiers = kept;
  }

  /**
   * Warms up with the largest shape first: a GPU allocates and selects kernels by shape, so its arena grows once. A
   * CPU does neither, and 8,192 tokens of a large model would keep it busy for a minute: one short row
   * proves that the model answers at all.
   */
  async #warmUp(): Promise<void> {
    const { manifest, device, maxBatchTokens } = this.#params;
    const { maxTokens } = manifest.architecture;
    const typical = Math.min(TYPICAL_TOKENS, maxTokens);
    const shapes: [rows: number, tokens: number][] = [[1, Math.min(WARM_UP_TOKENS, maxTokens)]];
    if (device.kind !== "cpu")
      shapes.unshift([1, maxTokens], [Math.max(1, Math.floor(maxBatchTokens / typical)), typical]);
    for (const [rows, tokens] of shapes) {
      const heads = Object.keys(manifest.heads) as Head[];
      const shard = allocateShard({ lengths: Array.from({ length: rows }, () => tokens), dim: manifest.dim, heads });
      await this.run(Array.from({ length: rows }, (_, row) => ({ shard, row })));
    }
  }
}

interface UnfinishedBatch {
  readonly tensors: InferenceSession.OnnxValueMapType;
  /** Hidden states in single precision by output name; several heads are computed from one. */
  readonly hidden: Map<string, Float32Array>;
  readonly lengths: readonly number[];
  readonly longest: number;
}

/** Values of an output; halves as their bits. */
function valuesOf({ data }: InferenceSession.OnnxValueMapType[string]): Float32Array | Uint16Array {
  return data as Float32Array | Uint16Array;
}

// --- What is refused ------------------------------------------------------------------------

/** Checks inputs, outputs and their widths before the session gets any row. */
function assertGraph(session: InferenceSession, { manifest, weightsPath }: SessionParams): void {
  const { inputMetadata, outputMetadata } = session;
  assertSignature(manifest, weightsPath, {
    inputs: inputMetadata.map(toGraphValue),
    outputs: outputMetadata.map(toGraphValue),
  });
}

/** The runtime has an empty shape for an unknown one. */
function toGraphValue(value: InferenceSession.ValueMetadata): GraphValue {
  if (!value.isTensor) return { name: value.name, type: null, shape: null };
  const { name, type, shape } = value;
  return { name, type, shape: shape.length === 0 ? null : shape };
}

function notLoaded(path: string, device: Device, error: unknown): FleetError {
  const reason = plainReason(messageOf(error));
  const message = `ONNX Runtime cannot load ${path} on ${deviceName(device)}: ${reason}`;
  if (/No Op registered|not a registered function|find an implementation/i.test(reason)) {
    return new FleetError("model_invalid", message, {
      cure: "the graph uses an operator that this runtime lacks: export it with embedfleet models export, or update embedfleet",
      cause: error,
    });
  }
  if (/opset|ir_version|IR version/i.test(reason)) {
    return new FleetError("model_invalid", message, {
      cure: "the graph is newer than this runtime: export it with opset 17, or update embedfleet",
      cause: error,
    });
  }
  return new FleetError("model_invalid", message, {
    cure:
      device.kind === "cpu"
        ? "the file is damaged or its external data are missing: pull or export the model again"
        : "check the driver with nvidia-smi, or use --device cpu",
    cause: error,
  });
}

/** The reason in one line, without the path and the runtime's own source location. */
function plainReason(reason: string): string {
  return reason
    .replace(/^Load model from .*? failed:/, "")
    .replace(/\/onnxruntime_src\/.*?[\w(]\) (?=[A-Z])/s, "")
    .replaceAll(/\s+/g, " ")
    .trim();
}

function notRun(rows: number, longest: number, error: unknown): FleetError {
  const reason = messageOf(error);
  const isMemory = OUT_OF_MEMORY.test(reason);
  return new FleetError(
    isMemory ? "device_memory" : "inference_failed",
    `the model failed on ${rows} rows of up to ${longest} tokens: ${reason}`,
    { cause: error, ...(isMemory && { cure: "use a smaller --max-batch-tokens" }) },
  );
}
