/**
 * Heads computed from hidden states, for graphs that end there: pooling for dense vectors, and BGE-M3's
 * two linear layers, which its hub repository stores beside the graph as PyTorch files. The linear layers
 * run as a graph of their own, so that they cost as much as they would inside the model's graph.
 */
import { join } from "node:path";
import { InferenceSession, Tensor } from "onnxruntime-node";
import type { Head } from "../../src/core/contracts.ts";
import { FleetError } from "../../src/core/errors.ts";
import { normalize } from "./scatter.ts";
import type { OnnxManifest } from "../registry/manifest.ts";
import { type OnnxConstant, type OnnxGraph, writeOnnx } from "../graph/onnx-writer.ts";
import { readTorchFile } from "./torch-file.ts";

export interface HiddenStates {
  /** float32 [batch, longest, hiddenSize] */
  readonly values: Float32Array;
  readonly batch: number;
  readonly longest: number;
  /** Real tokens of each row. */
  readonly lengths: readonly number[];
}

export class HiddenHeads {
  readonly #manifest: OnnxManifest;
  readonly #linears: InferenceSession | null;

  private constructor(manifest: OnnxManifest, linears: InferenceSession | null) {
    this.#manifest = manifest;
    this.#linears = linears;
  }

  /** @throws FleetError `model_invalid` when a linear layer's file does not fit the model. */
  static async open(
    params: Readonly<{ manifest: OnnxManifest; folder: string; options: InferenceSession.SessionOptions }>,
  ): Promise<HiddenHeads> {
    const { manifest, folder, options } = params;
    const graph = linearsGraph(manifest, folder);
    const isEmpty = Object.keys(graph.outputs).length === 0;
    return new HiddenHeads(manifest, isEmpty ? null : await InferenceSession.create(writeOnnx(graph), options));
  }

  /** @returns What a graph that finishes the head would return: see `OnnxManifest.heads`. */
  async finish(head: Head, hidden: HiddenStates): Promise<Float32Array> {
    if (head === "dense") return this.#pool(hidden);
    const { hiddenSize } = this.#manifest.architecture;
    const { batch, longest } = hidden;
    const input = new Tensor("float32", hidden.values, [batch, longest, hiddenSize]);
    const outputs = await this.#linears!.run({ hidden: input }, [head]);
    return outputs[head]!.data as Float32Array;
  }

  #pool({ values, batch, longest, lengths }: HiddenStates): Float32Array {
    const { heads, dim, architecture } = this.#manifest;
    const { hiddenSize } = architecture;
    const pooling = heads.dense?.finished === false ? heads.dense.pooling : "cls";
    const pooled = new Float32Array(batch * dim);
    for (let row = 0; row < batch; row++) {
      const length = lengths[row]!;
      const first = pooling === "last" ? length - 1 : 0;
      const end = pooling === "cls" ? 1 : length;
      const target = pooled.subarray(row * dim, (row + 1) * dim);
      for (let token = first; token < end; token++) {
        const at = (row * longest + token) * hiddenSize;
        for (let i = 0; i < dim; i++) target[i]! += values[at + i]!;
      }
      // Mean and sum have the same direction, so the sum need not be divided.
      normalize(target);
    }
    return pooled;
  }
}

/** Graph of the linear layers. Sparse: ReLU(linear), [batch, seq]. ColBERT: first token dropped, linear, unit norm. */
function linearsGraph(manifest: OnnxManifest, folder: string): OnnxGraph {
  const { heads, dim, architecture } = manifest;
  const { hiddenSize } = architecture;
  const layer = (head: "sparse" | "colbert", width: number): Record<string, OnnxConstant> | null => {
    const described = heads[head];
    return described?.finished === false
      ? linearOf({ head, path: join(folder, described.linear.path), width, hiddenSize })
      : null;
  };
  const sparse = layer("sparse", 1);
  const colbert = layer("colbert", dim);
  return {
    inputs: { hidden: ["batch", "seq", hiddenSize] },
    constants: {
      ...sparse,
      ...colbert,
      last: { shape: [1], values: BigInt64Array.of(2n) },
      second: { shape: [1], values: BigInt64Array.of(1n) },
      end: { shape: [1], values: BigInt64Array.of(2n ** 31n) },
      tokens: { shape: [1], values: BigInt64Array.of(1n) },
    },
    nodes: [
      ...(sparse === null
        ? []
        : [
            { op: "MatMul", inputs: ["hidden", "sparse.weight"], output: "sparse.product" },
            { op: "Add", inputs: ["sparse.product", "sparse.bias"], output: "sparse.sum" },
            { op: "Relu", inputs: ["sparse.sum"], output: "sparse.relu" },
            { op: "Squeeze", inputs: ["sparse.relu", "last"], output: "sparse" },
          ]),
      ...(colbert === null
        ? []
        : [
            { op: "Slice", inputs: ["hidden", "second", "end", "tokens"], output: "colbert.hidden" },
            { op: "MatMul", inputs: ["colbert.hidden", "colbert.weight"], output: "colbert.product" },
            { op: "Add", inputs: ["colbert.product", "colbert.bias"], output: "colbert.sum" },
            {
              op: "LpNormalization",
              inputs: ["colbert.sum"],
              output: "colbert",
              attributes: { axis: -1, p: 2 },
            },
          ]),
    ],
    outputs: {
      ...(sparse !== null && { sparse: ["batch", "seq"] }),
      ...(colbert !== null && { colbert: ["batch", "seq - 1", dim] }),
    },
  };
}

/** The layer's constants, with the weight transposed so that hidden states are multiplied from the left. */
function linearOf(
  params: Readonly<{ head: string; path: string; width: number; hiddenSize: number }>,
): Record<string, OnnxConstant> {
  const { head, path, width, hiddenSize } = params;
  const tensors = readTorchFile(path);
  const [weight, bias] = [tensors.get("weight"), tensors.get("bias")];
  const [shape, biasShape] = [weight, bias].map((tensor) => tensor?.shape.join(",") ?? "nothing");
  if (shape !== `${width},${hiddenSize}` || biasShape !== `${width}`) {
    throw new FleetError(
      "model_invalid",
      `${path} has weight [${shape}] and bias [${biasShape}]; the ${head} head needs [${width},${hiddenSize}] and [${width}]`,
      { cure: "it belongs to another model: pull the model again" },
    );
  }
  const turned = new Float32Array(hiddenSize * width);
  for (let row = 0; row < width; row++) {
    for (let i = 0; i < hiddenSize; i++) turned[i * width + row] = weight!.values[row * hiddenSize + i]!;
  }
  return {
    [`${head}.weight`]: { shape: [hiddenSize, width], values: turned },
    [`${head}.bias`]: { shape: [width], values: bias!.values },
  };
}
