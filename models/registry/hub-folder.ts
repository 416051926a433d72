/**
 * A folder in the layout of the Hugging Face hub, described as a manifest: `config.json`, `tokenizer.json`,
 * `onnx/model.onnx` or `model.onnx`, the modules of sentence-transformers, and BGE-M3's two extra heads if
 * they are beside it.
 */
import { existsSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { readLayerFile } from "../layers/layer-file.ts";
import { findGraphs, firstSignature, type HubOutputs, inputsOf, outputsOf } from "./hub-graphs.ts";
import { type Config, integerOf, objectOf, readOptional, textOf, unsupported, unusable } from "./hub-json.ts";
import { assertEmbedder, assertTransformer, type HubModules, readModules, transformerFolder } from "./hub-modules.ts";
import { type HubSizes, readSizes } from "./hub-sizes.ts";
import type { OnnxManifest } from "./manifest.ts";

/** Describes a hub folder. @throws FleetError `model_invalid`, naming the file that is missing or cannot be used. */
export function describeFolder(folder: string): OnnxManifest {
  const config = readOptional(folder, "config_sentence_transformers.json");
  assertEmbedder(config);
  const at = transformerFolder(folder);
  const sizes = readSizes(folder, at);
  assertTransformer(sizes.transformer);
  const weights = findGraphs(folder, at);
  const signature = firstSignature(folder, weights);
  const outputs = outputsOf(join(folder, Object.values(weights)[0]![0]!.path), signature);
  const modules = readModules(folder, sizes.architecture.hiddenSize);
  assertUnitLength(config, modules);
  const prompts = promptsOf(config);
  const dense = denseOf(folder, { modules, outputs });
  const dim = Math.min(dense.width, integerOf(config, ["truncate_dim"], 1) ?? Infinity);
  return {
    id: idOf(folder),
    hub: null,
    revision: "local",
    description: `${sizes.architecture.kind} from ${folder}`,
    notice: null,
    license: "see the model's own card",
    tokenizer: { path: sizes.tokenizer },
    architecture: sizes.architecture,
    dim,
    ...prompts,
    ...poolPromptOf(config, modules, prompts),
    ...(sizes.lowersCase && { lowerCase: true }),
    inputs: inputsOf(signature),
    ...headsOf(folder, { dense: dense.head, states: outputs.states, sizes, dim }),
    weights,
  };
}

// --- Heads ----------------------------------------------------------------------------------

type Heads = OnnxManifest["heads"];

/** A graph that ends with the vector is taken at its word, and checked against the modules where it has the states. */
function denseOf(
  folder: string,
  params: Readonly<{ modules: HubModules; outputs: HubOutputs }>,
): { head: NonNullable<Heads["dense"]>; width: number } {
  const { modules, outputs } = params;
  const { vector, states, hasStates } = outputs;
  const pooled = {
    pooling: modules.pooling.length === 1 ? modules.pooling[0]! : [...modules.pooling],
    ...(modules.modules.length > 0 && { modules: [...modules.modules] }),
  };
  if (vector === null) {
    assertWhole(folder, modules);
    return { head: { output: states, finished: false, ...pooled }, width: modules.width };
  }
  if (vector.width !== null && modules.isListed && vector.width !== modules.width) {
    const message = `its modules make vectors of ${modules.width} numbers; the graph's ${vector.output} has ${vector.width}`;
    throw unusable(join(folder, "modules.json"), message);
  }
  const isChecked = hasStates && modules.isListed && modules.missing.length === 0;
  return {
    head: { output: vector.output, finished: true, ...(isChecked && { from: { output: states, ...pooled } }) },
    width: vector.width ?? modules.width,
  };
}

function assertWhole(folder: string, { missing }: HubModules): void {
  if (missing.length > 0) throw unusable(join(folder, "modules.json"), `${join(folder, missing[0]!)} does not exist`);
}

function headsOf(
  folder: string,
  params: Readonly<{ dense: NonNullable<Heads["dense"]>; states: string; sizes: HubSizes; dim: number }>,
): Pick<OnnxManifest, "heads"> & Partial<Pick<OnnxManifest, "notice">> {
  const { dense, states, sizes, dim } = params;
  const { nonLexicalIds, architecture } = sizes;
  const hidden = { output: states, finished: false } as const;
  const has = (name: string): boolean => existsSync(join(folder, name));
  const sparse = { ...hidden, nonLexicalIds: [...nonLexicalIds], linear: { path: "sparse_linear.pt" } };
  const colbert = { ...hidden, linear: { path: "colbert_linear.pt" } };
  const width = has(colbert.linear.path) ? widthOf(join(folder, colbert.linear.path), architecture.hiddenSize) : null;
  const heads = { dense, ...(has(sparse.linear.path) && { sparse }) };
  if (width === null) return { heads };
  if (width === dim) return { heads: { ...heads, colbert } };
  return {
    heads,
    notice: `its ColBERT vectors have ${width} numbers and its dense ones ${dim}; a run has one width, so the model is used without its colbert head`,
  };
}

/** Width of the layer's vectors; the hidden states' for a file that cannot be read, which a session reports. */
function widthOf(path: string, hiddenSize: number): number {
  try {
    return readLayerFile(path).get("weight")?.shape[0] ?? hiddenSize;
  } catch {
    return hiddenSize;
  }
}

/** @throws FleetError `model_invalid` for a model whose vectors' lengths say something: here all have unit length. */
function assertUnitLength(config: Config, { modules }: HubModules): void {
  const similarity = textOf(config, "similarity_fn_name") ?? "cosine";
  if (similarity === "cosine" || modules.at(-1)?.kind === "normalize") return;
  throw unsupported(
    config.path,
    `similarity_fn_name is ${similarity} and the model does not normalise its vectors; embedfleet's all have unit length, so their order would be another`,
  );
}

// --- Prompts --------------------------------------------------------------------------------

type Prompts = Pick<OnnxManifest, "prefixes" | "prompts" | "defaultPrompt">;

/** Names of a document's prompt, in the order in which sentence-transformers' `encode_document` looks for them. */
const DOCUMENT_PROMPTS = ["document", "passage", "corpus"];

/** An empty prompt is the same as none: sentence-transformers saves `query` and `document` for every model. */
function promptsOf(config: Config): Prompts {
  const named = objectOf(config, "prompts");
  const prompts = Object.fromEntries(
    Object.keys(named?.values ?? {}).map((name) => [name, textOf(named!, name) ?? ""]),
  );
  const name = textOf(config, "default_prompt_name");
  if (name !== null && prompts[name] === undefined)
    throw unusable(config.path, `its default_prompt_name ${JSON.stringify(name)} is none of its prompts`);
  // The other purpose's prompt is never a default.
  const otherwise = (others: readonly string[]): string =>
    name === null || others.includes(name) ? "" : prompts[name]!;
  const passage = DOCUMENT_PROMPTS.map((each) => prompts[each]).find(Boolean);
  return {
    prefixes: {
      query: prompts["query"] || otherwise(DOCUMENT_PROMPTS),
      passage: passage ?? otherwise(["query"]),
    },
    ...(Object.keys(prompts).length > 0 && { prompts }),
    ...(name !== null && { defaultPrompt: name }),
  };
}

/** A prompt before every text would be pooled with it, so such a model is refused. */
function poolPromptOf(config: Config, { poolsPrompt }: HubModules, { prefixes }: Prompts): { poolPrompt?: false } {
  if (poolsPrompt) return {};
  const prompt = prefixes.passage || prefixes.query;
  if (prompt === "") return { poolPrompt: false };
  throw unsupported(
    config.path,
    `the model has the prompt ${JSON.stringify(prompt)} and leaves prompts out of its pooling (include_prompt), which embedfleet cannot`,
  );
}

function idOf(folder: string): string {
  const id = basename(resolve(folder))
    .replace(/[^A-Za-z0-9._-]/g, "-")
    .replace(/^[^A-Za-z0-9]+/, "");
  return id.slice(0, 64) || "model";
}
