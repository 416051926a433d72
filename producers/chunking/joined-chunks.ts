/**
 * Chunks of texts that a prompt or headings precede. Each has the ids of prompt, headings and its own text encoded as one
 * text, as a program has that embeds the chunk by itself; so a text is cut first, and its chunks are encoded again.
 */
import type { Encoded, Tokenizer } from "../../src/core/ports.ts";
import { encodePrompted } from "../../models/tokenizer/encode-prompted.ts";
import { type Chunk, type ChunkLimits, roomOf } from "./spans.ts";

/** The tokens of the text alone, of those of prompt and text; the one at the seam may count with the prompt. */
export function textTokens({ ids, starts }: Encoded, prompt: string): Encoded {
  const found = starts.findIndex((start) => start >= prompt.length);
  const first = found === -1 ? starts.length : found;
  return { ids: ids.subarray(first), starts: starts.subarray(first).map((start) => start - prompt.length) };
}

interface Attempt {
  readonly text: number;
  /** Length to cut at: below the limit where chunks that were encoded again were too long. */
  readonly maxTokens: number;
}

/**
 * @param params.limits Special tokens with the prompt's ids among them.
 * @param params.cutText Cuts a text at so many tokens, the prompt's included; its chunks' ids are those of its parts
 *   encoded apart, which stand where a chunk cannot be made shorter.
 */
export async function joinedChunks(
  params: Readonly<{
    tokenizer: Tokenizer;
    texts: readonly number[];
    limits: ChunkLimits;
    cutText: (text: number, maxTokens: number) => Chunk[];
  }>,
): Promise<ReadonlyMap<number, Chunk[]>> {
  const { tokenizer, limits, cutText } = params;
  const { maxTokens } = limits;
  /** Cut shorter than this, chunks with this overlap would not advance. */
  const least = maxTokens - roomOf(limits) + limits.overlap + 1;
  const done = new Map<number, Chunk[]>();
  let attempts: Attempt[] = params.texts.map((text) => ({ text, maxTokens }));
  while (attempts.length > 0) {
    const cuts = attempts.map((attempt) => cutText(attempt.text, attempt.maxTokens));
    const rows = framed(await encodePrompted(tokenizer, { texts: cuts.flat().map(({ text }) => text) }), tokenizer);
    const again: Attempt[] = [];
    attempts.forEach((attempt, i) => {
      const chunks = cuts[i]!.map((chunk): Chunk => ({ ...chunk, ids: rows.next().value! }));
      const excess = Math.max(...chunks.map(({ ids }) => ids.length)) - maxTokens;
      const shorter = attempt.maxTokens - excess;
      if (excess > 0 && shorter >= least) again.push({ ...attempt, maxTokens: shorter });
      else
        done.set(attempt.text, excess > 0 ? chunks.map((chunk, k) => fitting(chunk, cuts[i]![k]!, maxTokens)) : chunks);
    });
    attempts = again;
  }
  return done;
}

function* framed(encoded: readonly Encoded[], { prefixIds, suffixIds }: Tokenizer): Generator<Int32Array, undefined> {
  for (const { ids } of encoded) yield Int32Array.from([...prefixIds, ...ids, ...suffixIds]);
}

function fitting(together: Chunk, apart: Chunk, maxTokens: number): Chunk {
  return together.ids.length <= maxTokens ? together : apart;
}
