/** Texts to chunks: tokenised, cut and hashed, here or wherever else there are cores. */
import type { RunOptions } from "../../src/core/contracts.ts";
import type { Encoded, Tokenizer } from "../../src/core/ports.ts";
import { RowBuilder, type RowColumns, type RowSpan } from "./row-columns.ts";
import { assertChunkLimits, type Chunk, roomOf } from "./spans.ts";
import { chunk, encodeTitles, outlineOf } from "./strategies.ts";

/** Options that decide how texts are cut, and if their chunks' texts are kept. */
export type ChunkingOptions = Pick<RunOptions, "chunking" | "chunkTokens" | "overlap" | "keepText">;

/** The rows of several texts. Their buffers are their own, so that a thread can hand them to another without a copy. */
export type ChunkedTexts = RowColumns & {
  /** Rows of each text, in order. */
  readonly counts: Uint32Array;
  /** Tokens of the texts themselves, without special tokens. */
  readonly tokens: number;
};

export interface Chunker {
  /** Number of batches to keep in flight, so that none of its threads waits. */
  readonly batchesInFlight: number;
  cut(texts: readonly string[]): Promise<ChunkedTexts>;
}

export class LocalChunker implements Chunker {
  /** While one batch is tokenised the next is read and the one before is hashed. */
  readonly batchesInFlight = 2;
  readonly #tokenizer: Tokenizer;
  readonly #options: ChunkingOptions;

  constructor(params: Readonly<{ tokenizer: Tokenizer; options: ChunkingOptions }>) {
    this.#tokenizer = params.tokenizer;
    this.#options = params.options;
  }

  async cut(texts: readonly string[]): Promise<ChunkedTexts> {
    const { chunking, chunkTokens: maxTokens, overlap } = this.#options;
    const { prefixIds, suffixIds } = this.#tokenizer;
    const limits = { maxTokens, overlap, prefixIds, suffixIds };
    assertChunkLimits(limits);
    const outlines = texts.map((text) => outlineOf(text, chunking));
    const titles = await encodeTitles(outlines, this.#tokenizer);
    const encoded = await encodeAll({
      tokenizer: this.#tokenizer,
      texts,
      room: roomOf(limits),
      isCut: (i) => (outlines[i]?.length ?? 1) > 1,
    });
    return this.#toColumns(encoded, texts, (text, i) =>
      chunk({ text, encoded: encoded[i]!, outline: outlines[i]!, titles, chunking, ...limits }),
    );
  }

  /** @param cutText Gives the chunks of a text that does not fit into one, or has headings. */
  #toColumns(
    encoded: readonly Encoded[],
    texts: readonly string[],
    cutText: (text: string, i: number) => Chunk[],
  ): ChunkedTexts {
    const { prefixIds, suffixIds } = this.#tokenizer;
    const { chunkTokens, keepText } = this.#options;
    const specials = prefixIds.length + suffixIds.length;
    const tokens = encoded.reduce((sum, { ids }) => sum + ids.length, 0);
    const rows = new RowBuilder({ rows: texts.length, tokens: tokens + specials * texts.length, keepText });
    const counts = new Uint32Array(texts.length);
    const [prefix, suffix] = [Int32Array.from(prefixIds), Int32Array.from(suffixIds)];
    texts.forEach((text, i) => {
      const before = rows.rows;
      const { ids, starts } = encoded[i]!;
      // Most texts are one row, for which no object is made; their tokens came without positions.
      if (starts.length === 0 && ids.length + specials <= chunkTokens)
        rows.add({ tokenIds: [prefix, ids, suffix], charStart: 0, charEnd: text.length, text });
      else for (const { ids: all, ...values } of cutText(text, i)) rows.add({ ...values, tokenIds: [all] });
      counts[i] = rows.rows - before;
    });
    return { ...rows.finish(), counts, tokens };
  }
}

/** The rows of each text. */
export function rowsOfTexts(cut: ChunkedTexts): RowSpan[] {
  let next = 0;
  return Array.from(cut.counts, (count): RowSpan => {
    const first = next;
    next += count;
    return { columns: cut, first, count };
  });
}

/** Positions of tokens cost more time than the tokens, and only texts that are cut need them. */
async function encodeAll(
  params: Readonly<{
    tokenizer: Tokenizer;
    texts: readonly string[];
    room: number;
    /** True for a text that is cut even if it fits into one chunk. */
    isCut: (text: number) => boolean;
  }>,
): Promise<Encoded[]> {
  const { tokenizer, texts, room, isCut } = params;
  const encoded: Encoded[] = [];
  const encode = async (which: readonly number[], startsAbove: number): Promise<void> => {
    const results = await tokenizer.encode({ texts: which.map((i) => texts[i]!), startsAbove });
    results.forEach((result, k) => (encoded[which[k]!] = result));
  };
  const all = [...texts.keys()];
  await encode(
    all.filter((i) => !isCut(i)),
    room,
  );
  await encode(all.filter(isCut), 0);
  return encoded;
}
