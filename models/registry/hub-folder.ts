/**
 * A folder in the layout of the Hugging Face hub, described as a manifest: `config.json`,
 * `tokenizer.json`, `onnx/model.onnx` or `model.onnx`, pooling from sentence-transformers'
 * `1_Pooling/config.json`, and BGE-M3's two extra heads if they are beside it.
 */
import { existsSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { z } from "zod";
import type { Precision } from "../../src/core/contracts.ts";
import { FleetError, messageOf } from "../../src/core/errors.ts";
import { externalFilesOf } from "../graph/graph-files.ts";
import type { ModelFile, OnnxManifest } from "./manifest.ts";
import { readText } from "./plain-file.ts";

const configSchema = z.object({
  model_type: z.string().min(1),
  hidden_size: z.int().min(1),
  vocab_size: z.int().min(1),
  max_position_embeddings: z.int().min(4),
  pad_token_id: z.int().min(0).default(0),
  bos_token_id: z.int().min(0).nullish(),
  eos_token_id: z.int().min(0).nullish(),
});
const poolingSchema = z.object({
  pooling_mode_cls_token: z.boolean().optional(),
  pooling_mode_mean_tokens: z.boolean().optional(),
  pooling_mode_lasttoken: z.boolean().optional(),
});
const lengthSchema = z.object({ max_seq_length: z.int().min(3) });
const promptsSchema = z.object({
  prompts: z.record(z.string(), z.string().nullish()).nullish(),
  default_prompt_name: z.string().nullish(),
});
const tokenizerSchema = z.object({ model: z.object({ unk_id: z.int().nullish() }) });

/** Families whose first position is the one after the pad id's. */
const ROBERTA_FAMILY = new Set(["roberta", "xlm-roberta", "camembert", "xlm-roberta-xl"]);
/** Names that exporters give to a graph, by precision. */
const GRAPHS: Readonly<Partial<Record<Precision, readonly string[]>>> = {
  fp32: ["model.onnx"],
  fp16: ["model_fp16.onnx"],
  int8: ["model_int8.onnx", "model_quantized.onnx"],
};

/** Describes a hub folder. @throws FleetError `model_invalid`, naming the file that is missing or cannot be used. */
export function describeFolder(folder: string): OnnxManifest {
  const config = readJson(folder, "config.json", configSchema);
  const weights = findWeights(folder);
  const positionOffset = ROBERTA_FAMILY.has(config.model_type) ? config.pad_token_id + 1 : 0;
  const positions = config.max_position_embeddings - positionOffset;
  const lengths = readOptional(folder, "sentence_bert_config.json", lengthSchema);
  return {
    id: idOf(folder),
    hub: null,
    revision: "local",
    description: `${config.model_type} from ${folder}`,
    notice: null,
    license: "see the model's own card",
    tokenizer: { path: tokenizerOf(folder) },
    architecture: {
      kind: config.model_type,
      hiddenSize: config.hidden_size,
      vocabSize: config.vocab_size,
      padId: config.pad_token_id,
      maxTokens: Math.min(positions, lengths?.max_seq_length ?? positions),
    },
    dim: config.hidden_size,
    ...promptsOf(folder),
    inputs: { ids: "input_ids", mask: "attention_mask", typeIds: "token_type_ids" },
    heads: headsOf(folder, config),
    weights,
  };
}

/** Names of a document's prompt, in the order in which sentence-transformers' `encode_document` looks for them. */
const DOCUMENT_PROMPTS = ["document", "passage", "corpus"];

/** The default prompt is before every text whose own purpose has no prompt. */
function promptsOf(folder: string): Pick<OnnxManifest, "prefixes" | "prompts" | "defaultPrompt"> {
  const file = "config_sentence_transformers.json";
  const { prompts: named, default_prompt_name: name } = readOptional(folder, file, promptsSchema) ?? {};
  const prompts = Object.fromEntries(Object.entries(named ?? {}).map(([each, prompt]) => [each, prompt ?? ""]));
  if (typeof name === "string" && prompts[name] === undefined)
    throw new FleetError(
      "model_invalid",
      `${join(folder, file)} has the default prompt ${name}, which it does not define`,
      {
        cure: "pull the whole repository of the model again, or correct the file",
      },
    );
  const otherwise = prompts[name ?? ""] ?? "";
  const passage = DOCUMENT_PROMPTS.map((each) => prompts[each]).find((prompt) => prompt !== undefined);
  return {
    prefixes: { query: prompts["query"] ?? otherwise, passage: passage ?? otherwise },
    ...(Object.keys(prompts).length > 0 && { prompts }),
    ...(typeof name === "string" && { defaultPrompt: name }),
  };
}

function headsOf(folder: string, config: z.infer<typeof configSchema>): OnnxManifest["heads"] {
  const output = "last_hidden_state";
  const hidden = { output, finished: false } as const;
  const has = (name: string): boolean => existsSync(join(folder, name));
  const unknownId = readOptional(folder, tokenizerOf(folder), tokenizerSchema)?.model.unk_id;
  const special = [config.bos_token_id, config.pad_token_id, config.eos_token_id, unknownId];
  const nonLexicalIds = [...new Set(special.filter((id) => typeof id === "number"))].sort((a, b) => a - b);
  return {
    dense: { ...hidden, pooling: poolingOf(folder) },
    ...(has("sparse_linear.pt") && { sparse: { ...hidden, nonLexicalIds, linear: { path: "sparse_linear.pt" } } }),
    ...(has("colbert_linear.pt") && { colbert: { ...hidden, linear: { path: "colbert_linear.pt" } } }),
  };
}

function poolingOf(folder: string): "cls" | "mean" | "last" {
  const pooling = readJson(folder, "1_Pooling/config.json", poolingSchema);
  const modes = [
    pooling.pooling_mode_cls_token === true ? (["cls"] as const) : [],
    pooling.pooling_mode_mean_tokens === true ? (["mean"] as const) : [],
    pooling.pooling_mode_lasttoken === true ? (["last"] as const) : [],
  ].flat();
  if (modes.length === 1) return modes[0]!;
  throw new FleetError(
    "model_invalid",
    `${join(folder, "1_Pooling/config.json")} asks for ${modes.length === 0 ? "none of cls, mean and last" : modes.join(" and ")}`,
    { cure: "add a manifest.json that states the pooling to the folder: see docs/models.md" },
  );
}

function findWeights(folder: string): OnnxManifest["weights"] {
  const weights: Partial<Record<Precision, ModelFile[]>> = {};
  for (const [precision, names] of Object.entries(GRAPHS) as [Precision, readonly string[]][]) {
    const graph = names.flatMap((name) => [`onnx/${name}`, name]).find((path) => existsSync(join(folder, path)));
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

function tokenizerOf(folder: string): string {
  return existsSync(join(folder, "tokenizer.json")) ? "tokenizer.json" : "onnx/tokenizer.json";
}

function idOf(folder: string): string {
  const id = basename(resolve(folder))
    .replace(/[^A-Za-z0-9._-]/g, "-")
    .replace(/^[^A-Za-z0-9]+/, "");
  return id.slice(0, 64) || "model";
}

function readOptional<T>(folder: string, name: string, schema: z.ZodType<T>): T | null {
  return existsSync(join(folder, name)) ? readJson(folder, name, schema) : null;
}

function readJson<T>(folder: string, name: string, schema: z.ZodType<T>): T {
  try {
    return schema.parse(JSON.parse(readText(join(folder, name))));
  } catch (error) {
    throw new FleetError("model_invalid", `${join(folder, name)} cannot be used: ${messageOf(error)}`, {
      cure: "pull the whole repository of the model, or add a manifest.json to its folder: see docs/models.md",
      cause: error,
    });
  }
}
