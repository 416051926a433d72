/** Token ids of whole rows: the prompt and the text as one text, between the special tokens. */
import type { Encoded, Tokenizer } from "../../src/core/ports.ts";

/**
 * Encodes each text with the tokenizer's prompt before it, as one text.
 *
 * @param params.startsAbove Rows with more tokens than this, the prompt's included, get `starts`; none do by default.
 * @returns Ids of prompt and text, without special tokens. `starts` count from the prompt's first character.
 */
export function encodePrompted(
  tokenizer: Tokenizer,
  params: Readonly<{ texts: readonly string[]; startsAbove?: number }>,
): Promise<Encoded[]> {
  const { prompt = "" } = tokenizer;
  return tokenizer.encode(prompt === "" ? params : { ...params, texts: params.texts.map((text) => prompt + text) });
}

/**
 * The ids that a model receives for each text: special tokens, prompt and text.
 *
 * @param maxTokens Longest row; what is beyond it is left out.
 */
export async function encodeRows(
  tokenizer: Tokenizer,
  params: Readonly<{ texts: readonly string[]; maxTokens: number }>,
): Promise<Int32Array[]> {
  const { prefixIds, suffixIds } = tokenizer;
  const room = params.maxTokens - prefixIds.length - suffixIds.length;
  const encoded = await encodePrompted(tokenizer, params);
  return encoded.map(({ ids }) => Int32Array.from([...prefixIds, ...ids.subarray(0, room), ...suffixIds]));
}
