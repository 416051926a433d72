/** A model's tokenizer, checked against its embedding table, with the model's prefix. */
import { FleetError } from "../../src/core/errors.ts";
import type { Tokenizer } from "../../src/core/ports.ts";
import type { Model } from "../registry/open-model.ts";
import { loadPinned } from "../registry/pinned-files.ts";
import { loadTokenizer } from "./native.ts";

/**
 * A model's tokenizer for documents or for queries.
 *
 * A prefix such as `passage: ` becomes part of the special tokens before every row, so each piece of a long
 * document has it, as if it were a document of its own.
 *
 * @throws FleetError `model_invalid`
 */
export async function openTokenizer(
  model: Pick<Model, "manifest" | "tokenizerPath" | "files">,
  use: "query" | "passage",
): Promise<Tokenizer> {
  const { manifest, tokenizerPath, files } = model;
  const pinned = files.filter(({ path }) => path === tokenizerPath);
  const tokenizer = await loadPinned(pinned, () => loadTokenizer(tokenizerPath));
  const { vocabSize } = manifest.architecture;
  if (tokenizer.vocabSize > vocabSize) {
    throw new FleetError(
      "model_invalid",
      `the tokenizer ${tokenizerPath} makes ${tokenizer.vocabSize} ids; the embedding table of model ${manifest.id} has ${vocabSize}`,
      { cure: "tokenizer and weights belong to different models: install the model again" },
    );
  }
  // The prefix's last blank becomes the one that begins the text's first word.
  const prefix = manifest.prefixes[use].trimEnd();
  if (prefix === "") return tokenizer;
  const [encoded] = await tokenizer.encode({ texts: [prefix] });
  return { ...tokenizer, prefixIds: [...tokenizer.prefixIds, ...encoded!.ids] };
}
