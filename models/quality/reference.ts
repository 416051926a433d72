/** `reference.json`: sentence-transformers' ids and vectors for a sample of texts; `models/export/reference.py` writes it. */
import { z } from "zod";
import { FleetError, messageOf } from "../../src/core/errors.ts";
import { readPlain } from "../registry/plain-file.ts";

/** Limit on the file's size; 24 texts with all heads of width 1,024 take less than 10 MB. */
const MAX_BYTES = 256 * 1024 * 1024;

/** float32, little-endian */
const floatsSchema = z
  .base64()
  .transform((text) => new Float32Array(Uint8Array.from(Buffer.from(text, "base64")).buffer));

export const referenceSchema = z.object({
  madeBy: z.string(),
  dim: z.int().min(1),
  rows: z
    .array(
      z.object({
        id: z.string(),
        text: z.string(),
        /** Which of the model's prompts is before the text; references of earlier versions have only passages. */
        purpose: z.enum(["passage", "query"]).default("passage"),
        /** The prompt's ids and special tokens included, cut to the longest row. */
        ids: z.array(z.int().min(0)).min(3),
        /** [dim], unit length */
        dense: floatsSchema,
        /** The largest weight of each distinct id, special ids left out; indices ascending. */
        sparse: z.object({ indices: z.array(z.int().min(0)), values: floatsSchema }).optional(),
        /** Some of the token vectors, the first token not counted: which, and [rows, dim]. */
        colbert: z.object({ rows: z.array(z.int().min(0)), vectors: floatsSchema }).optional(),
      }),
    )
    .min(2),
});
export type Reference = z.infer<typeof referenceSchema>;
export type ReferenceRow = Reference["rows"][number];

/** Reads a reference. @throws FleetError `model_invalid` */
export function readReference(file: string): Reference {
  try {
    return referenceSchema.parse(JSON.parse(readPlain(file, MAX_BYTES).toString("utf8")));
  } catch (error) {
    throw new FleetError("model_invalid", `the reference ${file} cannot be used: ${messageOf(error)}`, {
      cure: "recreate it from the PyTorch model: see docs/models.md",
      cause: error,
    });
  }
}
