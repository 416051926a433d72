/** Texts to chunks: tokenised, cut and hashed, here or wherever else there are cores. */
import type { RunOptions } from "../../src/core/contracts.ts";
import type { Encoded, Tokenizer } from "../../src/core/ports.ts";
import { RowBuilder, type RowColumns, type RowSpan, type RowValues } from "./row-columns.ts";
import { assertChunkLimits, roomOf } from "./spans.ts";
import { chunk, encodeTitles, outlineOf } from "./strategies.ts";

/** What decides how texts are cut, and what is kept of them. */
export type ChunkingOptions = Pick<RunOptions, "chunking" | "chunkTokens" | "overlap" | "keepText">;

/** The rows of several texts. Their buffers are their own, so that a thread can hand them to another without a copy. */
export type ChunkedTexts = RowColumns & {
  /** Rows of each text, in order. */
  readonly counts: Uint32Array;
  /** Tokens of the texts themselves, without special tokens. */
  readonly tokens: number;
};

export interface Chunker {
  /** Batches that are worth having in flight, so that none of its threads waits. */
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
    const { chunking, chunkTokens: maxTokens, overlap, keepText } = this.#options;
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
    const tokens = encoded.reduce((sum, { ids }) => sum + ids.length, 0);
    const specials = (prefixIds.length + suffixIds.length) * texts.length;
    const rows = new RowBuilder({ rows: texts.length, tokens: tokens + specials, keepText });
    const frame = { prefix: Int32Array.from(prefixIds), suffix: Int32Array.from(suffixIds) };
    const counts = texts.map((text, i) => {
      const before = rows.rows;
      if (isWhole(encoded[i]!, roomOf(limits))) rows.add(wholeRow(text, encoded[i]!, frame));
      else
        for (const { ids, ...values } of chunk({
          text,
          encoded: encoded[i]!,
          outline: outlines[i]!,
          titles,
          chunking,
          ...limits,
        }))
          rows.add({ ...values, tokenIds: [ids] });
      return rows.rows - before;
    });
    return { ...rows.finish(), counts: Uint32Array.from(counts), tokens };
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

/** True for a text that fits and lies under no headings: one row, of whose tokens no positions are known. */
function isWhole({ ids, starts }: Encoded, room: number): boolean {
  return starts.length === 0 && ids.length <= room;
}

function wholeRow(
  text: string,
  { ids }: Encoded,
  { prefix, suffix }: Readonly<{ prefix: Int32Array; suffix: Int32Array }>,
): RowValues {
  return { tokenIds: [prefix, ids, suffix], charStart: 0, charEnd: text.length, text };
}

/** Positions of tokens cost more time than the tokens, and only texts that are cut need them. */
async function encodeAll(
  params: Readonly<{
    tokenizer: Tokenizer;
    texts: readonly string[];
    room: number;
    /** Whether a text is cut even if it fits. */
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
