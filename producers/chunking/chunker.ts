/** Converts texts to chunks: tokenised, cut and hashed, on this thread or on others. */
import type { RunOptions } from "../../src/core/contracts.ts";
import type { Encoded, Tokenizer } from "../../src/core/ports.ts";
import { RowBuilder, type RowColumns, type RowSpan } from "./row-columns.ts";
import { assertChunkLimits, type Chunk, roomOf } from "./spans.ts";
import { chunk, encodeTitles, outlineOf } from "./strategies.ts";

/** Options that determine how texts are cut and whether their chunks' texts are kept. */
export type ChunkingOptions = Pick<RunOptions, "chunking" | "chunkTokens" | "overlap" | "keepText">;

/** The rows of several texts. They own their buffers, so that a thread can transfer them to another without a copy. */
export type ChunkedTexts = RowColumns & {
  /** Number of rows of each text, in order. */
  readonly counts: Uint32Array;
  /** Number of tokens of the texts themselves, without special tokens. */
  readonly tokens: number;
};

export interface Chunker {
  /** Number of batches to keep in flight, so that none of its threads idles. */
  readonly batchesInFlight: number;
  cut(texts: readonly string[]): Promise<ChunkedTexts>;
}

export class LocalChunker implements Chunker {
  /** Two: while one batch is tokenised the next is read and the previous one is hashed. */
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

  /** @param cutText Returns the chunks of a text that exceeds one chunk or has headings. */
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
      // Most texts are one row, for which no object is created; their tokens have no positions.
      if (starts.length === 0 && ids.length + specials <= chunkTokens)
        rows.add({ tokenIds: [prefix, ids, suffix], charStart: 0, charEnd: text.length, text });
      else for (const { ids: all, ...values } of cutText(text, i)) rows.add({ ...values, tokenIds: [all] });
      counts[i] = rows.rows - before;
    });
    return { ...rows.finish(), counts, tokens };
  }
}

/** The rows of each text, as spans. */
export function rowsOfTexts(cut: ChunkedTexts): RowSpan[] {
  let next = 0;
  return Array.from(cut.counts, (count): RowSpan => {
    const first = next;
    next += count;
    return { columns: cut, first, count };
  });
}

/** Token positions take more time than the tokens, and only texts that are cut need them. */
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
