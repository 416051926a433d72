/** One model on one device: rows in, the outputs of their padded batch out. */
import { relative, sep } from "node:path";
import { InferenceSession, Tensor } from "onnxruntime-node";
import {
  allocateShard,
  type BatchReport,
  type RowRef,
  rowLength,
  type ShardBuffers,
  wantedHeads,
} from "../../src/core/batch.ts";
import { ALL_HEADS, type Head } from "../../src/core/contracts.ts";
import { FleetError, messageOf } from "../../src/core/errors.ts";
import { nowMs } from "../../src/core/telemetry.ts";
import { type Device, deviceName } from "../../src/core/device-name.ts";
import { cudaOf, providersOf } from "./device.ts";
import { fromHalf } from "../../src/core/half.ts";
import { type BatchOutputs, Scatterer } from "./scatter.ts";
import { assertListed } from "../graph/graph-files.ts";
import { HiddenHeads } from "./hidden-heads.ts";
import { givesSame, notUsed, openTiers, testRows, type Tier } from "./tensorrt-engines.ts";
import { loadPinned } from "../registry/pinned-files.ts";
import { paddedLengthOf, type SessionParams } from "./session-params.ts";
import { chooseTier } from "./tensorrt-tiers.ts";

/** Messages of the runtime that mean that memory is short, on a CPU and on CUDA. */
const OUT_OF_MEMORY =
  /out of memory|bad.?alloc|failed to allocate memory|CUDA_ERROR_OUT_OF_MEMORY|available memory of/i;
const WARM_UP_TOKENS = 16;
const TYPICAL_TOKENS = 512;

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
  /** Grows to the largest batch and stays; ONNX Runtime copies inputs on entry. */
  #ids = new BigInt64Array(0);
  #mask = new BigInt64Array(0);

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
    this.#scatterer = new Scatterer(params.manifest);
  }

  /**
   * Loads the graph, checks it against the manifest and warms the device up.
   * @throws FleetError `model_invalid` when the file cannot be loaded or does not match the manifest.
   */
  static async open(params: SessionParams): Promise<ModelSession> {
    const opened = await loadPinned(params.files, () => ModelSession.#load(params));
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
    const feeds = this.#feeds(rows, longest);
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
    const { tensors, hidden, lengths, longest } = batch;
    const { output, finished } = this.#params.manifest.heads[head]!;
    const values = valuesOf(tensors[output]!);
    if (finished) return values;
    const singles = hidden.get(output) ?? (values instanceof Uint16Array ? fromHalf(values) : values);
    hidden.set(output, singles);
    return this.#hidden.finish(head, { values: singles, batch: lengths.length, lengths, longest });
  }

  /** Inputs as int64 [batch, longest]: ids, mask and, where needed, type ids; padded on the right. */
  #feeds(rows: readonly RowRef[], longest: number): Record<string, Tensor> {
    const area = rows.length * longest;
    if (this.#ids.length < area) {
      this.#ids = new BigInt64Array(area);
      this.#mask = new BigInt64Array(area);
    }
    // An id fits the low half of its int64, so the halves are written without creating BigInts.
    const ids = new Int32Array(this.#ids.buffer, 0, area * 2).fill(0);
    const mask = new Int32Array(this.#mask.buffer, 0, area * 2).fill(0);
    const { inputs, architecture } = this.#params.manifest;
    const { padId } = architecture;
    rows.forEach(({ shard, row }, index) => {
      const start = shard.offsets[row]!;
      const tokens = shard.offsets[row + 1]! - start;
      const base = index * longest;
      for (let token = 0; token < tokens; token++) {
        ids[(base + token) * 2] = shard.ids[start + token]!;
        mask[(base + token) * 2] = 1;
      }
      for (let token = tokens; token < longest; token++) ids[(base + token) * 2] = padId;
    });
    const shape = [rows.length, longest];
    const wantsTypes = inputs.typeIds !== undefined && this.#session.inputNames.includes(inputs.typeIds);
    return {
      [inputs.ids]: new Tensor("int64", this.#ids.subarray(0, area), shape),
      [inputs.mask]: new Tensor("int64", this.#mask.subarray(0, area), shape),
      ...(wantsTypes && { [inputs.typeIds!]: new Tensor("int64", new BigInt64Array(area), shape) }),
    };
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
  const { id, inputs, heads, dim, architecture } = manifest;
  const known = [inputs.ids, inputs.mask, inputs.typeIds];
  const strange = session.inputNames.filter((name) => !known.includes(name));
  const lacking = [inputs.ids, inputs.mask].filter((name) => !session.inputNames.includes(name));
  if (strange.length + lacking.length > 0) {
    throw unlike(
      `${weightsPath} takes ${session.inputNames.join(", ")}; the manifest of model ${id} has ${known.filter(Boolean).join(", ")}`,
    );
  }
  for (const head of ALL_HEADS) {
    if (heads[head] === undefined) continue;
    const { output, finished } = heads[head];
    const found = session.outputMetadata.find(({ name }) => name === output);
    if (found?.isTensor !== true) {
      throw unlike(
        `${weightsPath} has the outputs ${session.outputNames.join(", ")}; none of them is ${output}, the ${head} head of model ${id}`,
      );
    }
    const width = found.shape.at(-1);
    const expected = finished ? dim : architecture.hiddenSize;
    const hasWidth = head !== "sparse" || !finished;
    if (hasWidth && typeof width === "number" && width !== expected)
      throw unlike(
        `the output ${output} of ${weightsPath} is ${width} wide; the manifest of model ${id} says ${expected}`,
      );
    if (!["float32", "float16"].includes(found.type))
      throw unlike(`the output ${output} of ${weightsPath} is ${found.type}; it must be float32 or float16`);
  }
}

function unlike(message: string): FleetError {
  return new FleetError("model_invalid", message, {
    cure: "fix the model's manifest.json, or export the model again",
  });
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
