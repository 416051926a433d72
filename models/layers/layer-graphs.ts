/**
 * The layers that stand beside a model's graph, as small graphs of their own, so that they cost as much as they would
 * inside it: BGE-M3's two linear layers, and the modules between pooling and the model's vector.
 */
import { join } from "node:path";
import { FleetError } from "../../src/core/errors.ts";
import { type OnnxConstant, type OnnxGraph, type OnnxNode } from "../graph/onnx-writer.ts";
import { type OnnxManifest, pooledOf, type VectorModule } from "../registry/manifest.ts";
import { readLayerFile } from "./layer-file.ts";

/**
 * Sparse: ReLU(linear), [batch, seq]. ColBERT: first token dropped, linear, unit norm.
 * @returns Null for a model without such layers.
 * @throws FleetError `model_invalid` when a layer's file does not fit the model.
 */
export function linearsGraph(manifest: OnnxManifest, folder: string): OnnxGraph | null {
  const { heads, dim, architecture } = manifest;
  const { hiddenSize } = architecture;
  const layer = (head: "sparse" | "colbert", width: number): Record<string, OnnxConstant> | null => {
    const described = heads[head];
    if (described?.finished !== false) return null;
    const [path, needed] = [join(folder, described.linear.path), { weight: [width, hiddenSize], bias: [width] }];
    const { weight, bias } = constantsOf(path, needed, `the ${head} head`);
    return { [`${head}.weight`]: turned(weight!), [`${head}.bias`]: bias! };
  };
  const sparse = layer("sparse", 1);
  const colbert = layer("colbert", dim);
  if (sparse === null && colbert === null) return null;
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
    nodes: [...(sparse === null ? [] : SPARSE_NODES), ...(colbert === null ? [] : COLBERT_NODES)],
    outputs: {
      ...(sparse !== null && { sparse: ["batch", "seq"] }),
      ...(colbert !== null && { colbert: ["batch", "seq - 1", dim] }),
    },
  };
}

const SPARSE_NODES: readonly OnnxNode[] = [
  { op: "MatMul", inputs: ["hidden", "sparse.weight"], output: "sparse.product" },
  { op: "Add", inputs: ["sparse.product", "sparse.bias"], output: "sparse.sum" },
  { op: "Relu", inputs: ["sparse.sum"], output: "sparse.relu" },
  { op: "Squeeze", inputs: ["sparse.relu", "last"], output: "sparse" },
];
const UNIT_LENGTH = { axis: -1, p: 2 };
const COLBERT_NODES: readonly OnnxNode[] = [
  { op: "Slice", inputs: ["hidden", "second", "end", "tokens"], output: "colbert.hidden" },
  { op: "MatMul", inputs: ["colbert.hidden", "colbert.weight"], output: "colbert.product" },
  { op: "Add", inputs: ["colbert.product", "colbert.bias"], output: "colbert.sum" },
  { op: "LpNormalization", inputs: ["colbert.sum"], output: "colbert", attributes: UNIT_LENGTH },
];

/** The part of a graph that one module adds. */
interface Part {
  readonly nodes: readonly OnnxNode[];
  readonly constants: Readonly<Record<string, OnnxConstant>>;
  readonly width: number;
}

/**
 * From `pooled` [batch, width] to `vector` [batch, width of the last module].
 * @returns Null for a model without modules.
 * @throws FleetError `model_invalid` when a module's file does not fit.
 */
export function modulesGraph(manifest: OnnxManifest, folder: string): OnnxGraph | null {
  const steps = pooledOf(manifest);
  const modules = steps?.modules ?? [];
  if (steps === null || modules.length === 0) return null;
  const pooledWidth = [steps.pooling].flat().length * manifest.architecture.hiddenSize;
  const parts: Part[] = [];
  modules.forEach((module, at) => {
    const width = parts.at(-1)?.width ?? pooledWidth;
    const names = { input: at === 0 ? "pooled" : `vector.${at - 1}`, output: `vector.${at}` };
    parts.push(partOf(module, { folder, width, ...names }));
  });
  return {
    inputs: { pooled: ["batch", pooledWidth] },
    constants: Object.assign({}, ...parts.map(({ constants }) => constants)) as OnnxGraph["constants"],
    nodes: [
      ...parts.flatMap(({ nodes }) => nodes),
      { op: "Identity", inputs: [`vector.${modules.length - 1}`], output: "vector" },
    ],
    outputs: { vector: ["batch", parts.at(-1)!.width] },
  };
}

interface PartParams {
  readonly folder: string;
  /** Width of the vector that comes in. */
  readonly width: number;
  readonly input: string;
  readonly output: string;
}

function partOf(module: VectorModule, params: PartParams): Part {
  const { width, input, output } = params;
  if (module.kind === "dense") return denseOf(module, params);
  if (module.kind === "layernorm") return layerNormOf(module, params);
  return {
    nodes: [{ op: "LpNormalization", inputs: [input], output, attributes: UNIT_LENGTH }],
    constants: {},
    width,
  };
}

function denseOf(module: Extract<VectorModule, { kind: "dense" }>, params: PartParams): Part {
  const { folder, width: before, input, output } = params;
  const { file, width, bias, activation } = module;
  const needed = { "linear.weight": [width, before], ...(bias && { "linear.bias": [width] }) };
  const constants = constantsOf(join(folder, file.path), needed, "the dense layer");
  const [weights, biases, product, sum] = ["weight", "bias", "product", "sum"].map((name) => `${output}.${name}`);
  return {
    nodes: [
      { op: "MatMul", inputs: [input, weights!], output: product! },
      ...(bias ? [{ op: "Add", inputs: [product!, biases!], output: sum! }] : []),
      ...activationOf(activation, bias ? sum! : product!, output),
    ],
    constants: {
      [weights!]: turned(constants["linear.weight"]!),
      ...(bias && { [biases!]: constants["linear.bias"]! }),
      [`${output}.half`]: single(0.5),
      [`${output}.one`]: single(1),
      [`${output}.rootOfHalf`]: single(Math.SQRT1_2),
    },
    width,
  };
}

/** ONNX's operators with the parameters that PyTorch's classes have by default. */
const OPERATORS = {
  Identity: "Identity",
  Tanh: "Tanh",
  ReLU: "Relu",
  Sigmoid: "Sigmoid",
  LeakyReLU: "LeakyRelu",
  ELU: "Elu",
  SELU: "Selu",
  Softplus: "Softplus",
  Softsign: "Softsign",
} as const;

function activationOf(activation: DenseActivation, input: string, output: string): OnnxNode[] {
  if (activation === "SiLU") {
    return [
      { op: "Sigmoid", inputs: [input], output: `${output}.gate` },
      { op: "Mul", inputs: [input, `${output}.gate`], output },
    ];
  }
  if (activation !== "GELU") return [{ op: OPERATORS[activation], inputs: [input], output }];
  // x * (1 + erf(x / sqrt 2)) / 2
  return [
    { op: "Mul", inputs: [input, `${output}.rootOfHalf`], output: `${output}.scaled` },
    { op: "Erf", inputs: [`${output}.scaled`], output: `${output}.erf` },
    { op: "Add", inputs: [`${output}.erf`, `${output}.one`], output: `${output}.gate` },
    { op: "Mul", inputs: [input, `${output}.gate`], output: `${output}.gated` },
    { op: "Mul", inputs: [`${output}.gated`, `${output}.half`], output },
  ];
}
type DenseActivation = Extract<VectorModule, { kind: "dense" }>["activation"];

function layerNormOf(module: Extract<VectorModule, { kind: "layernorm" }>, params: PartParams): Part {
  const { folder, width, input, output } = params;
  const needed = { "norm.weight": [width], "norm.bias": [width] };
  const constants = constantsOf(join(folder, module.file.path), needed, "the layer norm");
  const [weights, biases] = [`${output}.weight`, `${output}.bias`];
  return {
    // Its epsilon is PyTorch's, 1e-5.
    nodes: [{ op: "LayerNormalization", inputs: [input, weights, biases], output }],
    constants: { [weights]: constants["norm.weight"]!, [biases]: constants["norm.bias"]! },
    width,
  };
}

function single(value: number): OnnxConstant {
  return { shape: [1], values: Float32Array.of(value) };
}

/** @param needed Shapes by tensor's name. @param what For messages. */
function constantsOf(
  path: string,
  needed: Readonly<Record<string, readonly number[]>>,
  what: string,
): Record<string, OnnxConstant> {
  const tensors = readLayerFile(path);
  const shapeOf = (name: string): string => tensors.get(name)?.shape.join(",") ?? "nothing";
  const names = Object.keys(needed);
  if (names.some((name) => shapeOf(name) !== needed[name]!.join(","))) {
    const is = names.map((name) => `${name} [${shapeOf(name)}]`).join(" and ");
    const needs = names.map((name) => `[${needed[name]!.join(",")}]`).join(" and ");
    throw new FleetError("model_invalid", `${path} has ${is}; ${what} needs ${needs}`, {
      cure: "it belongs to another model: pull the model again",
    });
  }
  return Object.fromEntries(names.map((name) => [name, tensors.get(name)! as OnnxConstant]));
}

/** A weight [out, in] as [in, out], so that vectors are multiplied from the left. */
function turned({ shape, values }: OnnxConstant): OnnxConstant {
  const [rows, columns] = shape as [number, number];
  const result = new Float32Array(values.length);
  for (let row = 0; row < rows; row++) {
    for (let i = 0; i < columns; i++) result[i * rows + row] = Number(values[row * columns + i]!);
  }
  return { shape: [columns, rows], values: result };
}
