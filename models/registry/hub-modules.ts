/**
 * The modules of a sentence-transformers folder: `modules.json` and each module's own configuration, in the layouts of
 * all its versions. What cannot be computed here is refused by its name.
 */
import { existsSync } from "node:fs";
import { join, posix } from "node:path";
import {
  type Config,
  flagOf,
  integerOf,
  isObject,
  objectOf,
  readConfig,
  readJson,
  readOptional,
  textOf,
  textsOf,
  unsupported,
  unusable,
} from "./hub-json.ts";
import { ACTIVATIONS, type Pooling, type VectorModule } from "./manifest.ts";

/** The way from a row's hidden states to its vector. */
export interface HubModules {
  /** Folder of the transformer's own files, relative to the model's; empty for the model's folder itself. */
  readonly transformer: string;
  readonly pooling: readonly Pooling[];
  /** False: the prompt's tokens are left out of the pooled vector. */
  readonly poolsPrompt: boolean;
  readonly modules: readonly VectorModule[];
  readonly width: number;
  /** Paths of weights that the folder lacks; a graph that has the modules inside does not need them. */
  readonly missing: readonly string[];
  /** Whether a `modules.json` lists them, or only a `1_Pooling` is there. */
  readonly isListed: boolean;
}

interface ListedModule {
  /** The class, without its package. */
  readonly kind: string;
  /** Relative to the model's folder. */
  readonly path: string;
}

/** The order in which flags of earlier versions are concatenated, and their modes. */
const FLAGS: readonly (readonly [flag: string, mode: Pooling])[] = [
  ["pooling_mode_cls_token", "cls"],
  ["pooling_mode_max_tokens", "max"],
  ["pooling_mode_mean_tokens", "mean"],
  ["pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len"],
  ["pooling_mode_weightedmean_tokens", "weightedmean"],
  ["pooling_mode_lasttoken", "last"],
];
/** Modes by the names of version 5.4 and later. */
const MODES: Readonly<Record<string, Pooling>> = {
  cls: "cls",
  max: "max",
  mean: "mean",
  mean_sqrt_len_tokens: "mean_sqrt_len",
  weightedmean: "weightedmean",
  lasttoken: "last",
};
const MODULES = "modules.json";
const DEFAULT_INPUT = "sentence_embedding";
const PLAIN_PATH = /^(?!\/)(?!.*\.\.)[\w./-]*$/;

/** Path of the transformer's files, relative to the folder. @throws FleetError `model_invalid` */
export function transformerFolder(folder: string): string {
  return existsSync(join(folder, MODULES)) ? (listModules(folder)[0]?.path ?? "") : "";
}

/**
 * @param hiddenSize Width of the hidden states.
 * @throws FleetError `model_invalid`
 */
export function readModules(folder: string, hiddenSize: number): HubModules {
  const isListed = existsSync(join(folder, MODULES));
  const listed = isListed
    ? listModules(folder)
    : [
        { kind: "Transformer", path: "" },
        { kind: "Pooling", path: "1_Pooling" },
      ];
  const [transformer, pooling, ...rest] = listed.filter(({ kind }) => kind !== "Dropout");
  if (transformer?.kind !== "Transformer" || pooling?.kind !== "Pooling") {
    const kinds = listed.map(({ kind }) => kind).join(", ");
    throw unusable(
      join(folder, MODULES),
      `it lists ${kinds || "no module"}; a Transformer and a Pooling must come first`,
    );
  }
  const pooled = readPooling(folder, pooling.path);
  const modules: VectorModule[] = [];
  let width = pooled.pooling.length * hiddenSize;
  for (const module of rest) {
    const made = readModule(folder, module, width);
    modules.push(made);
    if (made.kind === "dense") width = made.width;
  }
  const paths = modules.flatMap((module) => ("file" in module ? [module.file.path] : []));
  const missing = paths.filter((path) => !existsSync(join(folder, path)));
  return { transformer: transformer.path, ...pooled, modules, width, missing, isListed };
}

function listModules(folder: string): ListedModule[] {
  const path = join(folder, MODULES);
  const list = readJson(path);
  if (!Array.isArray(list)) throw unusable(path, "it is not a list of modules");
  return list.map((entry: unknown, at) => {
    if (!isObject(entry)) throw unusable(path, `its entry ${at} is not an object`);
    const config: Config = { path: `${path}: entry ${at}`, values: entry };
    const type = textOf(config, "type");
    if (type === null) throw unusable(config.path, "it has no type");
    const kind = kindOf(path, type);
    const place =
      textOf(config, "path") ?? (kind === "Transformer" ? "" : `${integerOf(config, ["idx"]) ?? at}_${kind}`);
    if (!PLAIN_PATH.test(place))
      throw unusable(config.path, `its path ${JSON.stringify(place)} is not inside the folder`);
    return { kind, path: place };
  });
}

const KNOWN = new Set(["Transformer", "Pooling", "Dense", "LayerNorm", "Normalize", "Dropout"]);
/** What to say about modules that people may well meet. */
const REASONS: Readonly<Record<string, string>> = {
  SpladePooling: "a sparse encoder (SPLADE), which weighs words that a text does not have",
  SparseAutoEncoder: "a sparse encoder",
  SparseStaticEmbedding: "a sparse encoder",
  MLMTransformer: "a sparse encoder (SPLADE), which weighs words that a text does not have",
  StaticEmbedding: "a static embedding, which has no transformer and no graph",
  Router: "a router, which has one model for queries and another for documents",
  Asym: "a router, which has one model for queries and another for documents",
};

function kindOf(path: string, type: string): string {
  const kind = type.slice(type.lastIndexOf(".") + 1);
  if (!type.startsWith("sentence_transformers."))
    throw unsupported(path, `the module ${type} is the model's own code, and embedfleet runs none`);
  if (KNOWN.has(kind)) return kind;
  const reason = REASONS[kind];
  throw unsupported(
    path,
    `the module ${type} ${reason === undefined ? "is not known to embedfleet" : `makes it ${reason}`}`,
  );
}

// --- Pooling --------------------------------------------------------------------------------

function readPooling(folder: string, path: string): Pick<HubModules, "pooling" | "poolsPrompt"> {
  const config = readConfig(folder, posix.join(path, "config.json"));
  return { pooling: poolingOf(config), poolsPrompt: flagOf(config, "include_prompt") ?? true };
}

/** Without any mode, sentence-transformers takes the mean. */
function poolingOf(config: Config): Pooling[] {
  const named = textsOf(config, "pooling_mode");
  const flagged = FLAGS.filter(([flag]) => flagOf(config, flag) === true).map(([, mode]) => mode);
  const modes = named.map((name) => {
    const mode = Object.hasOwn(MODES, name) ? MODES[name] : undefined;
    if (mode !== undefined) return mode;
    throw unsupported(config.path, `its pooling ${JSON.stringify(name)} is none of ${Object.keys(MODES).join(", ")}`);
  });
  const unknown = Object.keys(config.values).find((name) => isUnknownFlag(name, config.values[name]));
  if (unknown !== undefined) throw unsupported(config.path, `its pooling ${unknown} is not known to embedfleet`);
  if (modes.length > 0) return modes;
  return flagged.length > 0 ? flagged : ["mean"];
}

function isUnknownFlag(name: string, value: unknown): boolean {
  return name.startsWith("pooling_mode_") && value === true && !FLAGS.some(([flag]) => flag === name);
}

// --- Dense, LayerNorm, Normalize ------------------------------------------------------------

function readModule(folder: string, { kind, path }: ListedModule, width: number): VectorModule {
  if (kind === "Transformer" || kind === "Pooling") throw unusable(join(folder, MODULES), `it lists a second ${kind}`);
  const name = posix.join(path, "config.json");
  const config = kind === "Normalize" ? readOptional(folder, name) : readConfig(folder, name);
  for (const each of ["module_input_name", "module_output_name"]) {
    const input = textOf(config, each) ?? DEFAULT_INPUT;
    if (input !== DEFAULT_INPUT)
      throw unsupported(config.path, `${each} is ${input}; embedfleet applies a ${kind} to the pooled vector alone`);
  }
  if (kind === "Normalize") return { kind: "normalize" };
  const file = { path: weightsOf(folder, path) };
  const taken = kind === "Dense" ? "in_features" : "dimension";
  const expected = integerOf(config, [taken], 1);
  if (expected !== width)
    throw unusable(config.path, `${taken} is ${expected}; the vector before it has ${width} numbers`);
  return kind === "Dense" ? readDense(config, file) : { kind: "layernorm", file };
}

function readDense(config: Config, file: { path: string }): VectorModule {
  const width = integerOf(config, ["out_features"], 1, 65_536);
  if (width === null) throw unusable(config.path, "it has no out_features");
  if (flagOf(config, "use_residual") === true)
    throw unsupported(config.path, "use_residual is not known to embedfleet");
  return { kind: "dense", file, width, bias: flagOf(config, "bias") ?? true, activation: activationOf(config) };
}

/** A class of PyTorch's by its full name; sentence-transformers takes Tanh where none is named. */
function activationOf(config: Config): (typeof ACTIVATIONS)[number] {
  const type = textOf(config, "activation_function") ?? "torch.nn.modules.activation.Tanh";
  const name = type.slice(type.lastIndexOf(".") + 1);
  const activation = ACTIVATIONS.find((each) => each === name);
  if (activation !== undefined && type.startsWith("torch.")) return activation;
  throw unsupported(config.path, `its activation ${type} is none of ${ACTIVATIONS.join(", ")}`);
}

function weightsOf(folder: string, path: string): string {
  const safe = posix.join(path, "model.safetensors");
  const torch = posix.join(path, "pytorch_model.bin");
  return !existsSync(join(folder, safe)) && existsSync(join(folder, torch)) ? torch : safe;
}

/** Refuses kinds of models that are no embedders of text. @param config The model's `config_sentence_transformers.json`. */
export function assertEmbedder(config: Config): void {
  const kind = textOf(config, "model_type");
  if (kind === null || kind === "SentenceTransformer") return;
  const kinds: Readonly<Record<string, string>> = {
    CrossEncoder: "a reranker, which scores pairs of texts and gives no vectors",
    SparseEncoder: "a sparse encoder (SPLADE), which weighs words that a text does not have",
    MultiVectorEncoder: "a multi-vector encoder (ColBERT) of sentence-transformers' own kind",
  };
  throw unsupported(config.path, `model_type ${kind} is ${kinds[kind] ?? "not known to embedfleet"}`);
}

/** Refuses a transformer that returns no hidden states of a text. @param config Its `sentence_bert_config.json`. */
export function assertTransformer(config: Config): void {
  const task = textOf(config, "transformer_task") ?? "feature-extraction";
  if (task !== "feature-extraction")
    throw unsupported(
      config.path,
      `transformer_task ${task} gives no hidden states: the model is no embedder, or a sparse one`,
    );
  const output = textOf(config, "module_output_name") ?? "token_embeddings";
  if (output !== "token_embeddings")
    throw unsupported(config.path, `module_output_name ${output} is not known to embedfleet`);
  const modalities = objectOf(config, "modality_config");
  if (modalities === null) return;
  const text = objectOf(modalities, "text");
  const states = text === null ? null : (textOf(text, "method_output_name") ?? "last_hidden_state");
  if (states !== "last_hidden_state")
    throw unsupported(
      config.path,
      states === null ? "the model takes no plain text" : `it pools ${states}, and embedfleet last_hidden_state`,
    );
}
