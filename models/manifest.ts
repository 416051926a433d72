/** What the fleet must know about a model, as a checked file. */
import { z } from "zod";
import { headSchema } from "../src/core/contracts.ts";

const fileSchema = z.strictObject({
  /** Relative to the manifest's model folder; no way out of it. */
  path: z.string().regex(/^(?!\/)(?!.*\.\.)[\w./-]+$/),
  bytes: z.int().min(1),
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
});

export const modelManifestSchema = z.strictObject({
  id: z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/),
  revision: z.string().min(1),
  description: z.string().min(1),
  /** Shown whenever the model is used; null when there is nothing to warn of. */
  notice: z.string().nullable(),
  license: z.string().min(1),
  /** Folder of the files, relative to the manifest. */
  folder: z.string().min(1),
  weights: fileSchema,
  tokenizer: fileSchema,
  dim: z.int().min(1).max(65536),
  vocabSize: z.int().min(1),
  padId: z.int().min(0),
  /** Ids that never carry a lexical weight: `<s>`, `<pad>`, `</s>`, `<unk>`. */
  nonLexicalIds: z.array(z.int().min(0)),
  /** Longest row, special tokens included. */
  maxTokens: z.int().min(3),
  inputs: z.strictObject({ ids: z.string(), mask: z.string() }),
  /**
   * Graph output of each head. Shapes: dense [batch, dim], unit length; sparse [batch, seq], weights
   * >= 0; colbert [batch, seq - 1, dim], unit length, the first token left out.
   */
  heads: z.partialRecord(headSchema, z.string()),
});
export type ModelManifest = z.infer<typeof modelManifestSchema>;
