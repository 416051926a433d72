/**
 * The schema of a model's manifest: `manifest.json` in a model's folder, or
 * `models/manifests/<name>.json` for the models that are known by name.
 */
import { z } from "zod";
import { engineNameSchema, precisionSchema } from "../../src/core/contracts.ts";
import { FleetError } from "../../src/core/errors.ts";
import { DEFAULT_ENGINE, engineNameOf } from "../../src/core/same-model.ts";

/** A path relative to the model's folder, which cannot leave it. */
const pathSchema = z.string().regex(/^(?!\/)(?!.*\.\.)[\w./-]+$/, "a relative path without '..'");

const sha256Schema = z.string().regex(/^[0-9a-f]{64}$/);

/**
 * Size and digest are omitted where nobody has measured them; the values found on first use are then
 * written to a lock file beside the files and checked from then on.
 */
const fileSchema = z.strictObject({
  path: pathSchema,
  bytes: z.int().min(1).optional(),
  sha256: sha256Schema.optional(),
});
export type ModelFile = z.infer<typeof fileSchema>;

/** A graph output that is the head's final result: float32 or float16. */
const finishedSchema = z.strictObject({ output: z.string().min(1), finished: z.literal(true) });
/** A graph output of hidden states, [batch, seq, hiddenSize]; the head is computed from it on this side. */
const hiddenSchema = z.strictObject({ output: z.string().min(1), finished: z.literal(false) });

/** Finished: float32 [batch, dim], unit length. Otherwise the pooled states are cut to `dim` and normalised here. */
const denseSchema = z.discriminatedUnion("finished", [
  finishedSchema,
  hiddenSchema.extend({ pooling: z.enum(["cls", "mean", "last"]) }),
]);
/** Ids that never carry a lexical weight, such as `<s>`, `<pad>`, `</s>` and `<unk>`. */
const nonLexicalIds = z.array(z.int().min(0));
/** Finished: float32 [batch, seq], weights >= 0. `linear` is a PyTorch file with `weight` [1, hiddenSize] and `bias` [1]. */
const sparseSchema = z.discriminatedUnion("finished", [
  finishedSchema.extend({ nonLexicalIds }),
  hiddenSchema.extend({ nonLexicalIds, linear: fileSchema }),
]);
/** Finished: float32 [batch, seq - 1, dim], unit length, the first token left out. `linear`: `weight` [dim, hiddenSize], `bias` [dim]. */
const colbertSchema = z.discriminatedUnion("finished", [finishedSchema, hiddenSchema.extend({ linear: fileSchema })]);

/** Files that are loaded. For ONNX the first is the graph, the others its external data, at the paths that it names. */
const weightsSchema = z.array(fileSchema).min(1);

const shapeSchema = z.strictObject({ batch: z.int().min(1), length: z.int().min(1) });
/** An ONNX file with a compiled TensorRT engine (an EPContext node), valid for one GPU architecture and version. */
const engineSchema = z.strictObject({
  /** Compute capability, such as `sm90`. */
  gpuArch: z.string().regex(/^sm\d{2,3}$/),
  /** TensorRT version, such as `10.9`, for the log line if the engine does not load; TensorRT itself is not asked. */
  trtVersion: z.string().min(1),
  ortVersion: z.string().min(1),
  precision: precisionSchema,
  /** SHA-256 of the weights that it was compiled from: the model's own at this precision, or it is not used. */
  weightsSha256: sha256Schema.optional(),
  /** Range of shapes that the engine accepts; it must never get any other. */
  min: shapeSchema,
  opt: shapeSchema,
  max: shapeSchema,
  files: weightsSchema,
});

const architectureSchema = z.strictObject({
  /** `model_type` of the model's config.json. */
  kind: z.string().min(1),
  hiddenSize: z.int().min(1).max(65536),
  /** Number of rows of the embedding table. */
  vocabSize: z.int().min(1),
  padId: z.int().min(0),
  /** Maximum length of a row in tokens, special tokens included. */
  maxTokens: z.int().min(3),
});

/** Removes `positionOffset`, which manifests of earlier versions have and nothing ever read. */
function withoutPositionOffset(architecture: unknown): unknown {
  if (typeof architecture !== "object" || architecture === null) return architecture;
  const { positionOffset: _, ...read } = architecture as Readonly<Record<string, unknown>>;
  return read;
}

/** The fields of a manifest for any engine. */
const commonShape = {
  id: z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/),
  /** The hub repository that the files are pulled from; null for a model that is only on this machine. */
  hub: z
    .string()
    .regex(/^[\w.-]+\/[\w.-]+$/)
    .nullable(),
  /** A commit, tag or branch of the hub's repository; the model's own version if there is no hub. */
  revision: z.string().regex(/^[A-Za-z0-9_][\w.-]*$/),
  description: z.string().min(1),
  /** Shown whenever the model is used; null when there is no warning. */
  notice: z.string().nullable(),
  license: z.string().min(1),
  /** Folder of the files, relative to the manifest; without it, the manifest's own or, by name, the cache's. */
  folder: z.string().min(1).optional(),
  tokenizer: fileSchema,
  architecture: z.preprocess(withoutPositionOffset, architectureSchema),
  /** Width of dense and ColBERT vectors. */
  dim: z.int().min(1).max(65536),
  /** Widths that a dense vector may be cut to before it is normalised (Matryoshka training). */
  truncateDims: z.array(z.int().min(1)).optional(),
  /** Prefixes of a text, by its purpose. */
  prefixes: z.strictObject({ query: z.string(), passage: z.string() }),
  /** Every prompt that the model's authors name, by name. */
  prompts: z.record(z.string(), z.string()).optional(),
  /** Name of the prompt before texts whose purpose nobody states: one of `prompts`. */
  defaultPrompt: z.string().min(1).optional(),
  /** False: the prompt's tokens are no part of the pooled vector. Absent is true. */
  poolPrompt: z.boolean().optional(),
  /** True: a text is put into lower case before the tokenizer sees it. */
  lowerCase: z.boolean().optional(),
  weights: z
    .partialRecord(precisionSchema, weightsSchema)
    .refine((weights) => Object.keys(weights).length > 0, { message: "weights of at least one precision are needed" }),
};

/** A model as ONNX graphs, for the engine `onnx` and any other that reads them. */
export const onnxManifestSchema = z.strictObject({
  ...commonShape,
  engine: z.literal(DEFAULT_ENGINE).optional(),
  inputs: z.strictObject({
    ids: z.string().min(1),
    mask: z.string().min(1),
    /** Input of type ids, all zeros, for graphs that require it, as BERT's do. */
    typeIds: z.string().min(1).optional(),
  }),
  heads: z.strictObject({
    dense: denseSchema.optional(),
    sparse: sparseSchema.optional(),
    colbert: colbertSchema.optional(),
  }),
  engines: z.array(engineSchema).optional(),
});
/** The manifest of a model whose files are ONNX graphs. */
export type OnnxManifest = z.infer<typeof onnxManifestSchema>;

/** A head's settings for another engine, which checks them itself. */
const foreignHeadSchema = z.record(z.string(), z.json());

/** A model whose files are for another engine. */
const foreignManifestSchema = z.strictObject({
  ...commonShape,
  engine: engineNameSchema,
  heads: z.strictObject({
    dense: foreignHeadSchema.optional(),
    sparse: foreignHeadSchema.optional(),
    colbert: foreignHeadSchema.optional(),
  }),
});

type ForeignManifest = z.infer<typeof foreignManifestSchema>;

/** A model's manifest: its files, its size, and the data that its engine needs. */
export type ModelManifest = OnnxManifest | ForeignManifest;

/** A manifest, parsed by its engine's schema so that errors name the fields that it should have. */
export const modelManifestSchema: z.ZodType<ModelManifest> = z.unknown().transform((value, context): ModelManifest => {
  const engine = (value as Readonly<{ engine?: unknown }> | null)?.engine;
  const isOnnx = engine === undefined || engine === DEFAULT_ENGINE;
  const parsed = (isOnnx ? onnxManifestSchema : foreignManifestSchema).safeParse(value);
  if (parsed.success) return parsed.data;
  for (const { path, message } of parsed.error.issues)
    context.issues.push({ code: "custom", path: [...path], message, input: value });
  return z.NEVER;
});

/** Whether the model's files are ONNX graphs. */
export function isOnnx(manifest: ModelManifest): manifest is OnnxManifest {
  return engineNameOf(manifest) === DEFAULT_ENGINE;
}

/** The manifest as ONNX. @throws FleetError `model_invalid` when the model's files are another engine's. */
export function onnxManifestOf(manifest: ModelManifest): OnnxManifest {
  if (isOnnx(manifest)) return manifest;
  const { id, engine } = manifest;
  throw new FleetError("model_invalid", `model ${id} was made for engine ${engine} and has no ONNX graph`, {
    cure: "use that engine, or export the model: see docs/models.md",
  });
}
