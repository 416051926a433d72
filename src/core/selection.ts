/** Selection of documents and of their fields. */
import { z } from "zod";

/** Input format; `auto` detects it by first bytes and names. */
export const formatSchema = z.enum(["auto", "jsonl", "json", "csv", "tsv", "parquet", "arrow", "text", "html", "warc"]);
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

/** One character of ASCII that can separate or enclose fields; a control character is possible, as in Hive's tables. */
const fieldMark = z
  .string()
  .refine(
    (text) => text.length === 1 && text > "\0" && text <= "\x7f" && text !== "\n" && text !== "\r",
    "one character of ASCII, and no line end",
  );

/** How the rows of CSV and TSV are written, where it differs from the format's default. */
const tableSchema = z.strictObject({
  delimiter: fieldMark.optional().describe("Character between the fields of CSV and TSV; by default it is recognised."),
  quote: z
    .union([z.literal("none"), fieldMark], { error: "none, or one character of ASCII" })
    .optional()
    .describe('Character around fields of CSV and TSV, or `none`; by default `"` in CSV and none in TSV.'),
  escape: fieldMark
    .optional()
    .describe(
      "Character before a quote within quotes; by default the quote is doubled. Without quotes: before a delimiter or a line end.",
    ),
  columns: z
    .array(z.string().min(1))
    .min(1)
    .optional()
    .describe("Names of the columns of CSV and TSV without a header line; absent where the first line names them."),
});

/** How a document without an id gets one. */
const generatedIdSchema = z.enum(["row", "content"]);
/** Which characters are replaced in texts. */
const cleanSchema = z.enum(["none", "nul", "all"]);

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
  ...tableSchema.shape,
  generateId: generatedIdSchema
    .optional()
    .describe(
      "Id of a document that has none: `row` from its file and row, `content` from its text; absent where it is rejected.",
    ),
  clean: cleanSchema
    .optional()
    .describe(
      "Characters that are replaced by U+FFFD in texts: `nul` characters (also where absent), `all` for halves of surrogate pairs, too, or `none`; the others reject the document.",
    ),
});
/** Selection of documents and of their fields. */
export type Selection = z.infer<typeof selectionSchema>;
