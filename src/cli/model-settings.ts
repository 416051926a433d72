/** Settings of each command of `models`. */
import { z } from "zod";
import { EXPORT_PRECISIONS } from "../../models/export/run-exporter.ts";
import { cacheSettings, deviceSettings, modelSettings, planSettings } from "../fleet/settings.ts";
import { jsonSettings, placeSettings, s3AndLog } from "./shared-settings.ts";

const { models } = modelSettings.shape;

const measureSettings = z.object({
  models,
  precision: modelSettings.shape.precision.unwrap().default("auto").meta({
    value: "name",
    description: "weight precision to measure (auto: each that the model has)",
    variable: "EMBEDFLEET_MODELS_PRECISION",
  }),
  engine: modelSettings.shape.engine,
  ...placeSettings.shape,
  threads: deviceSettings.shape.threads,
  ...cacheSettings.shape,
});

export const benchCommand = z.object({
  ...measureSettings.shape,
  heads: planSettings.shape.heads,
  maxBatchTokens: deviceSettings.shape.maxBatchTokens,
  keep: z.string().exactOptional().meta({
    value: "folder",
    description: "folder to write the figures to, as JSON with a chart as SVG",
    byDefault: "not written",
    command: "bench",
  }),
  ...jsonSettings.shape,
});

export const checkCommand = z.object({
  ...measureSettings.shape,
  reference: z.string().exactOptional().meta({
    value: "file",
    description: "reference answers to compare the model with",
    byDefault: "reference.json in its folder",
    command: "check",
  }),
  ...jsonSettings.shape,
});

export const listModelsCommand = z.object({ models, ...jsonSettings.shape });

export const pullCommand = z.object({
  models,
  hub: z
    .string()
    .refine(isHubUrl, "an http:// or https:// URL without credentials")
    .default("https://huggingface.co")
    .meta({
      value: "url",
      description: "Hugging Face hub, or a server with the same layout",
      variable: "HF_ENDPOINT",
    }),
  precisions: z.array(z.enum(EXPORT_PRECISIONS)).exactOptional().meta({
    value: "list",
    description: "weight precisions to pull of a repository that is named as OWNER/NAME",
    byDefault: "the most precise that it has",
    variable: "EMBEDFLEET_PULL_PRECISIONS",
  }),
  from: z.string().exactOptional().meta({
    value: "url",
    description: "mirror to fetch the model's files from, instead of the hub: file:///folder or s3://bucket/prefix",
    command: "pull",
  }),
  ...s3AndLog,
  ...jsonSettings.shape,
});

function isHubUrl(text: string): boolean {
  const url = URL.canParse(text) ? new URL(text) : null;
  return url !== null && /^https?:$/.test(url.protocol) && url.username === "";
}

export const exportModelCommand = z.object({
  into: z.string().meta({
    value: "folder",
    description: "folder to write, for use with --model",
    command: "models export",
  }),
  precisions: z
    .array(z.enum(EXPORT_PRECISIONS))
    .min(1)
    .default([...EXPORT_PRECISIONS])
    .meta({
      value: "list",
      description: "weight precisions to write",
      byDefault: EXPORT_PRECISIONS.join(","),
      command: "models export",
    }),
  keepFloat: z.array(z.string()).default([]).meta({
    value: "patterns",
    description: "layers that int8 leaves in float32, e.g. 'layers.0.*,*.ffn.down'; 'none' for none",
    byDefault: "those that the model is known to need",
    command: "models export",
  }),
  tensorrt: z.boolean().default(false).meta({
    description: "compile TensorRT engines for this machine's GPU too",
    command: "models export",
  }),
  ...cacheSettings.shape,
});

export const addModelCommand = z.object({ ...jsonSettings.shape });

export type AddModelCommand = z.infer<typeof addModelCommand>;
export type BenchCommand = z.infer<typeof benchCommand>;
export type CheckCommand = z.infer<typeof checkCommand>;
export type ListModelsCommand = z.infer<typeof listModelsCommand>;
export type PullCommand = z.infer<typeof pullCommand>;
export type ExportModelCommand = z.infer<typeof exportModelCommand>;
