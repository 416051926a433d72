/** Every text has the same tokens, and makes the same number of them. */
import type { Encoded, Tokenizer } from "../../src/core/ports.ts";

/** So many that two documents make a shard, which is a window's only one. */
export const TOKENS = 4000;

const ids = new Int32Array(TOKENS).fill(5);
const none = new Uint32Array(0);

export const simTokenizer: Tokenizer = {
  vocabSize: 10,
  prefixIds: [0],
  suffixIds: [2],
  encode: async ({ texts, startsAbove = Infinity }) =>
    texts.map((text): Encoded => ({ ids, starts: TOKENS > startsAbove ? startsOf(text) : none })),
};

/** Spread over the text, as far as it reaches. */
function startsOf(text: string): Uint32Array {
  return Uint32Array.from(ids, (_, token) => Math.min(token, Math.max(0, text.length - 1)));
}
