/** The graphs of a folder in the hub's layout: their names by precision, and what the first of them takes and returns. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { Precision } from "../../src/core/contracts.ts";
import { FleetError } from "../../src/core/errors.ts";
import { externalFilesOf, readSignature } from "../graph/graph-files.ts";
import type { GraphSignature } from "../graph/graph-signature.ts";
import type { ModelFile, OnnxManifest } from "./manifest.ts";

/** Names that exporters give to a graph, by precision; the first that is there is taken. */
const GRAPHS: Readonly<Partial<Record<Precision, readonly string[]>>> = {
  fp32: ["model", "model_O1", "model_O2", "model_O3"],
  fp16: ["model_fp16", "model_O4"],
  // Weights of 4 bits are the coarsest.
  int8: [
    "model_int8",
    "model_quantized",
    "model_qint8_avx512_vnni",
    "model_qint8_avx512",
    "model_qint8_arm64",
    "model_quint8_avx2",
    "model_uint8",
    "model_q4",
    "model_q4f16",
    "model_bnb4",
  ],
};

/** @param at Path of the transformer's files. @throws FleetError `model_invalid` when there is no graph. */
export function findGraphs(folder: string, at: string): OnnxManifest["weights"] {
  const weights: Partial<Record<Precision, ModelFile[]>> = {};
  const places = [...new Set(["onnx/", "", ...(at === "" ? [] : [`${at}/onnx/`, `${at}/`])])];
  for (const [precision, names] of Object.entries(GRAPHS) as [Precision, readonly string[]][]) {
    const graph = names
      .flatMap((name) => places.map((place) => `${place}${name}.onnx`))
      .find((path) => existsSync(join(folder, path)));
    if (graph !== undefined) weights[precision] = [graph, ...externalData(folder, graph)].map((path) => ({ path }));
  }
  if (Object.keys(weights).length > 0) return weights;
  throw new FleetError("model_invalid", `${folder} has no ONNX graph: neither onnx/model.onnx nor model.onnx`, {
    cure: "export it: see docs/models.md",
  });
}

/** Paths of external data; none for an unusable graph, which `openModel` reports if that precision is wanted. */
function externalData(folder: string, graph: string): string[] {
  try {
    return externalFilesOf(folder, graph);
  } catch {
    return [];
  }
}

/** Inputs and outputs of the most precise graph; null for one that cannot be read, which a session reports. */
export function firstSignature(folder: string, weights: OnnxManifest["weights"]): GraphSignature | null {
  const graph = (weights.fp32 ?? weights.fp16 ?? weights.int8)![0]!.path;
  try {
    return readSignature(join(folder, graph));
  } catch {
    return null;
  }
}

/** Inputs by the names that exporters give them. */
export function inputsOf(signature: GraphSignature | null): OnnxManifest["inputs"] {
  const names = signature?.inputs.map(({ name }) => name) ?? [];
  return {
    ids: "input_ids",
    mask: "attention_mask",
    typeIds: "token_type_ids",
    ...(names.includes("position_ids") && { positionIds: "position_ids" }),
    ...(names.some((name) => name.startsWith("past_key_values.")) && { past: "past_key_values." }),
  };
}

const STATES = ["last_hidden_state", "token_embeddings"];
const VECTOR = "sentence_embedding";

export interface HubOutputs {
  /** The output of hidden states; the usual name where the graph has none, so that a check can say so. */
  readonly states: string;
  readonly hasStates: boolean;
  /** The output of finished vectors, and its width where the graph says it. */
  readonly vector: { readonly output: string; readonly width: number | null } | null;
}

/** @throws FleetError `model_invalid` for a graph that was made for another task. */
export function outputsOf(path: string, signature: GraphSignature | null): HubOutputs {
  const outputs = signature?.outputs ?? [];
  const states = STATES.find((name) => outputs.some((output) => output.name === name));
  const vector = outputs.find(({ name, shape }) => name === VECTOR && (shape === null || shape.length === 2));
  if (states === undefined && vector === undefined && outputs.some(({ name }) => name === "logits")) {
    throw new FleetError(
      "model_invalid",
      `${path} returns logits: it is a reranker, a classifier or a masked language model, no embedder`,
      {
        cure: "use an embedding model, or export this one's hidden states: see docs/models.md",
      },
    );
  }
  const width = vector?.shape?.at(-1);
  return {
    states: states ?? STATES[0]!,
    hasStates: states !== undefined,
    vector: vector === undefined ? null : { output: VECTOR, width: typeof width === "number" ? width : null },
  };
}
