/**
 * Heads computed from hidden states, for graphs that end there: pooling and modules for dense vectors, and BGE-M3's
 * two linear layers, which its hub repository stores beside the graph.
 */
import { InferenceSession, Tensor } from "onnxruntime-node";
import type { Head } from "../../src/core/contracts.ts";
import { type OnnxManifest, pooledOf } from "../registry/manifest.ts";
import { type OnnxGraph, writeOnnx } from "../graph/onnx-writer.ts";
import { linearsGraph, modulesGraph } from "../layers/layer-graphs.ts";
import { type HiddenStates, poolStates } from "./pooling.ts";
import { normalize } from "./scatter.ts";

export class HiddenHeads {
  readonly #manifest: OnnxManifest;
  readonly #linears: InferenceSession | null;
  readonly #modules: InferenceSession | null;

  private constructor(manifest: OnnxManifest, linears: InferenceSession | null, modules: InferenceSession | null) {
    this.#manifest = manifest;
    this.#linears = linears;
    this.#modules = modules;
  }

  /** @throws FleetError `model_invalid` when a layer's file does not fit the model. */
  static async open(
    params: Readonly<{ manifest: OnnxManifest; folder: string; options: InferenceSession.SessionOptions }>,
  ): Promise<HiddenHeads> {
    const { manifest, folder, options } = params;
    const sessionOf = async (graph: OnnxGraph | null): Promise<InferenceSession | null> =>
      graph === null ? null : InferenceSession.create(writeOnnx(graph), options);
    const linears = await sessionOf(linearsGraph(manifest, folder));
    return new HiddenHeads(manifest, linears, await sessionOf(modulesGraph(manifest, folder)));
  }

  /** @returns What a graph that finishes the head would return: see `OnnxManifest.heads`. */
  async finish(head: Head, hidden: HiddenStates): Promise<Float32Array> {
    if (head === "dense") return this.dense(hidden);
    const { hiddenSize } = this.#manifest.architecture;
    const { batch, longest } = hidden;
    const input = new Tensor("float32", hidden.values, [batch, longest, hiddenSize]);
    const outputs = await this.#linears!.run({ hidden: input }, [head]);
    return outputs[head]!.data as Float32Array;
  }

  /** @returns [batch, dim], each of unit length. */
  async dense(hidden: HiddenStates): Promise<Float32Array> {
    const { dim, architecture } = this.#manifest;
    const { batch } = hidden;
    const poolings = [pooledOf(this.#manifest)!.pooling].flat();
    const pooled = poolStates(hidden, poolings, architecture.hiddenSize);
    const made = this.#modules === null ? pooled : await this.#modulesOf(this.#modules, pooled, batch);
    const width = made.length / batch;
    const vectors = new Float32Array(batch * dim);
    for (let row = 0; row < batch; row++) {
      const vector = vectors.subarray(row * dim, (row + 1) * dim);
      vector.set(made.subarray(row * width, row * width + dim));
      normalize(vector);
    }
    return vectors;
  }

  async #modulesOf(modules: InferenceSession, pooled: Float32Array, batch: number): Promise<Float32Array> {
    const outputs = await modules.run({ pooled: new Tensor("float32", pooled, [batch, pooled.length / batch]) });
    return outputs["vector"]!.data as Float32Array;
  }
}
