/** One ONNX Runtime session: padded batches in, rows scattered into their shards' buffers. */
import { InferenceSession, Tensor } from "onnxruntime-node";
import { BROKEN, type RowRef, rowLength, type ShardBuffers } from "../src/core/batch.ts";
import { ALL_HEADS, type Head } from "../src/core/contracts.ts";
import { FleetError, messageOf } from "../src/core/errors.ts";
import { isFiniteSpan, scatterColbert, scatterDense, SparseReducer } from "./heads.ts";
import type { ModelManifest } from "./manifest.ts";

export interface SessionParams {
  readonly manifest: ModelManifest;
  readonly weightsPath: string;
  /** Threads inside one operator; 0 lets the runtime decide. */
  readonly threads: number;
}

export class ModelSession {
  readonly #session: InferenceSession;
  readonly #params: SessionParams;
  readonly #sparse: SparseReducer;
  /** Grows to the largest batch and stays; ONNX Runtime copies inputs on entry. */
  #ids = new BigInt64Array(0);
  #mask = new BigInt64Array(0);

  private constructor(session: InferenceSession, params: SessionParams) {
    this.#session = session;
    this.#params = params;
    this.#sparse = new SparseReducer(
      params.manifest.architecture.vocabSize,
      params.manifest.heads.sparse?.nonLexicalIds ?? [],
    );
  }

  /** @throws FleetError `model_invalid` when the file cannot be loaded or lacks a head's output. */
  static async open(params: SessionParams): Promise<ModelSession> {
    const { manifest, weightsPath, threads } = params;
    const heads = Object.keys(manifest.heads) as Head[];
    const session = await InferenceSession.create(weightsPath, {
      executionProviders: ["cpu"],
      graphOptimizationLevel: "all",
      intraOpNumThreads: threads,
      interOpNumThreads: 1,
      logSeverityLevel: 3,
    }).catch((error: unknown) => {
      throw new FleetError("model_invalid", `ONNX Runtime cannot load ${weightsPath}: ${messageOf(error)}`, {
        cause: error,
      });
    });
    const missing = heads.filter((head) => !session.outputNames.includes(manifest.heads[head]?.output ?? ""));
    if (missing.length > 0) {
      throw new FleetError(
        "model_invalid",
        `${weightsPath} has the outputs ${session.outputNames.join(", ")}, none of them the ${missing.join(" or ")} head of model ${manifest.id}`,
        { cure: "mend the output names in the model's manifest" },
      );
    }
    return new ModelSession(session, params);
  }

  /** @returns When the device worked, in milliseconds since the epoch. */
  async run(rows: readonly RowRef[]): Promise<{ startedAtMs: number; finishedAtMs: number }> {
    const { manifest } = this.#params;
    const heads = wantedHeads(rows);
    const longest = rows.reduce((max, ref) => Math.max(max, rowLength(ref)), 0);
    const feeds = this.#feeds(rows, longest);
    const names = heads.map((head) => manifest.heads[head]!.output);
    const startedAtMs = epochMs();
    const outputs = await this.#session.run(feeds, names);
    const finishedAtMs = epochMs();
    const values = (head: Head): Float32Array => outputs[manifest.heads[head]!.output]!.data as Float32Array;
    for (const head of heads) this.#scatter(head, values(head), rows, longest);
    for (const tensor of Object.values(outputs)) tensor.dispose();
    return { startedAtMs, finishedAtMs };
  }

  /** int64 [batch, longest] ids and mask, padded on the right. */
  #feeds(rows: readonly RowRef[], longest: number): Record<string, Tensor> {
    const area = rows.length * longest;
    if (this.#ids.length < area) {
      this.#ids = new BigInt64Array(area);
      this.#mask = new BigInt64Array(area);
    }
    // An id fits the low half of its int64, so the halves are written without making BigInts.
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
    return {
      [inputs.ids]: new Tensor("int64", this.#ids.subarray(0, area), shape),
      [inputs.mask]: new Tensor("int64", this.#mask.subarray(0, area), shape),
    };
  }

  #scatter(head: Head, output: Float32Array, rows: readonly RowRef[], longest: number): void {
    const width = output.length / rows.length;
    rows.forEach(({ shard, row }, index) => {
      if (!wants(shard, head)) return;
      if (head === "dense") scatterDense(output, index, shard, row);
      else if (head === "colbert") scatterColbert(output, index, longest, shard, row);
      else this.#sparse.scatter(output, index, longest, shard, row);
      if (!isFiniteSpan(output, index * width, (index + 1) * width)) shard.broken[row] = BROKEN.nonFinite;
    });
  }
}

/** Runs differ in the heads they ask for; a shard has buffers for its own. */
function wants(shard: ShardBuffers, head: Head): boolean {
  return (head === "sparse" ? shard.sparseCounts : shard[head]) !== null;
}

function wantedHeads(rows: readonly RowRef[]): Head[] {
  return ALL_HEADS.filter((head) => rows.some(({ shard }) => wants(shard, head)));
}

/** Comparable between threads, unlike `performance.now()` alone. */
function epochMs(): number {
  return performance.timeOrigin + performance.now();
}
