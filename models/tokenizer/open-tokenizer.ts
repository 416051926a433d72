/** A model's tokenizer, checked against its embedding table, with the model's prompt. */
import { FleetError } from "../../src/core/errors.ts";
import type { Tokenizer } from "../../src/core/ports.ts";
import type { Model } from "../registry/open-model.ts";
import { loadPinned } from "../registry/pinned-files.ts";
import { loadTokenizer } from "./native.ts";

/**
 * A model's tokenizer for documents or for queries. Each piece of a long document has the prompt, as if it were a
 * document of its own.
 *
 * @param prompt Text before every text; by default the model's own for that use.
 * @throws FleetError `model_invalid`
 */
export async function openTokenizer(
  model: Pick<Model, "manifest" | "tokenizerPath" | "files">,
  use: "query" | "passage",
  prompt: string = model.manifest.prefixes[use],
): Promise<Tokenizer> {
  const { manifest, tokenizerPath, files } = model;
  const pinned = files.filter(({ path }) => path === tokenizerPath);
  const tokenizer = await loadPinned(pinned, () => loadTokenizer(tokenizerPath, manifest));
  const { vocabSize } = manifest.architecture;
  if (tokenizer.vocabSize > vocabSize) {
    throw new FleetError(
      "model_invalid",
      `the tokenizer ${tokenizerPath} makes ${tokenizer.vocabSize} ids; the embedding table of model ${manifest.id} has ${vocabSize}`,
      { cure: "tokenizer and weights belong to different models: install the model again" },
    );
  }
  return prompt === "" ? tokenizer : { ...tokenizer, prompt };
}
