/** Selection of documents and of their fields. */
import { z } from "zod";

/** Input format; `auto` detects it by first bytes and names. */
export const formatSchema = z.enum(["auto", "jsonl", "csv", "tsv", "parquet", "arrow", "text", "html", "warc"]);
/** Format of a corpus. */
export type Format = z.infer<typeof formatSchema>;

/** One `--where`: a field, by dotted path, compared with a value as typed. */
export const conditionSchema = z.strictObject({
  field: z.string().min(1).describe("Dotted path of the field."),
  operator: z.enum(["=", "!=", "<", "<=", ">", ">="]).describe("Comparison operator."),
  value: z.string().describe("Value to compare with, as it was typed."),
});
/** A condition on a field of a document. */
export type Condition = z.infer<typeof conditionSchema>;

/** Names of a result file's own columns; see README. */
const RESULT_COLUMNS = new Set([
  "id",
  "chunk",
  "char_start",
  "char_end",
  "n_tokens",
  "text_hash",
  "dense",
  "sparse",
  "colbert",
  "text",
]);

/** Whether the name belongs to a result column, so that no field of that name can be copied to the output. */
export function isResultColumn(name: string): boolean {
  return RESULT_COLUMNS.has(name);
}

/** Selection of documents and of their fields, which are dotted paths. */
export const selectionSchema = z.strictObject({
  format: formatSchema.describe("Format of the inputs; `auto` recognises it by first bytes and names."),
  idField: z.string().min(1).describe("Dotted path of the field that holds a document's id."),
  textFields: z
    .array(z.string().min(1))
    .min(1)
    .describe(
      "Dotted paths of the text fields. Their texts are joined in this order by a blank line; missing and empty ones are left out.",
    ),
  where: z.array(conditionSchema).describe("Conditions that a document must meet, all of them."),
  sample: z.number().gt(0).max(1).describe("Share of the documents to take, chosen by id; 1 for all."),
  limit: z
    .int()
    .min(1)
    .nullable()
    .describe("Largest number of documents to take, the first of those chosen; null for all."),
  keep: z
    .array(
      z
        .string()
        .min(1)
        .refine((name) => !isResultColumn(name), { message: "the output has a column of that name" }),
    )
    .describe("Dotted paths of fields that are copied to the output as text columns of the same names."),
});
/** Selection of documents and of their fields. */
export type Selection = z.infer<typeof selectionSchema>;
