/** Converts texts to chunks: tokenised, cut and hashed, on this thread or on others. */
import type { RunOptions } from "../../src/core/contracts.ts";
import type { Encoded, Tokenizer } from "../../src/core/ports.ts";
import { encodePrompted } from "../../models/tokenizer/encode-prompted.ts";
import { joinedChunks, textTokens } from "./joined-chunks.ts";
import { RowBuilder, type RowColumns, type RowSpan } from "./row-columns.ts";
import { assertChunkLimits, type Chunk } from "./spans.ts";
import { chunk, encodeTitles, outlineOf } from "./strategies.ts";

/** Options that determine how texts are cut and whether their chunks' texts are kept. */
export type ChunkingOptions = Pick<RunOptions, "prompt" | "chunking" | "chunkTokens" | "overlap" | "keepText">;

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
  /** Ids of the prompt alone: how much of a chunk it takes. */
  #promptIds: Promise<Int32Array> | null = null;
  #titlesApart: Promise<boolean> | null = null;

  constructor(params: Readonly<{ tokenizer: Tokenizer; options: ChunkingOptions }>) {
    this.#tokenizer = params.tokenizer;
    this.#options = params.options;
  }

  async cut(texts: readonly string[]): Promise<ChunkedTexts> {
    const { chunking, chunkTokens: maxTokens, overlap } = this.#options;
    const { prefixIds, suffixIds, prompt = "" } = this.#tokenizer;
    const promptIds = await (this.#promptIds ??= idsOf(this.#tokenizer, prompt));
    const limits = { maxTokens, overlap, prefixIds: [...prefixIds, ...promptIds], suffixIds };
    assertChunkLimits(limits);
    const longest = maxTokens - prefixIds.length - suffixIds.length;
    const outlines = texts.map((text) => outlineOf(text, chunking));
    const titles = await encodeTitles(outlines, this.#tokenizer);
    const encoded = await encodeAll({
      tokenizer: this.#tokenizer,
      texts,
      room: longest,
      isCut: (i) => (outlines[i]?.length ?? 1) > 1,
    });
    const cutText = (i: number, most = maxTokens): Chunk[] => {
      const tokens = prompt === "" ? encoded[i]! : textTokens(encoded[i]!, prompt);
      const outline = outlines[i]!;
      return chunk({ text: texts[i]!, encoded: tokens, outline, titles, chunking, ...limits, maxTokens: most });
    };
    const isRow = (i: number): boolean => encoded[i]!.starts.length === 0 && encoded[i]!.ids.length <= longest;
    const isApart = prompt === "" && (titles.size === 0 || (await this.#encodesTitlesApart()));
    const hasContext = (i: number): boolean => outlines[i]?.some(({ path }) => path.length > 0) ?? false;
    const joined = isApart ? [] : [...texts.keys()].filter((i) => !isRow(i) && (prompt !== "" || hasContext(i)));
    const again = await joinedChunks({ tokenizer: this.#tokenizer, texts: joined, limits, cutText });
    const chunks = (i: number): Chunk[] | null => (isRow(i) ? null : (again.get(i) ?? cutText(i)));
    return this.#toColumns({ encoded, texts, promptTokens: promptIds.length, chunks });
  }

  /** Whether a chunk's headings have the ids of theirs alone; not in byte-level BPE, where blanks are in tokens. */
  #encodesTitlesApart(): Promise<boolean> {
    return (this.#titlesApart ??= this.#tokenizer
      .encode({ texts: ["a > b\n\nc", "a", ">", "b", "c"] })
      .then(([whole, ...parts]) => whole!.ids.join() === parts.flatMap(({ ids }) => [...ids]).join()));
  }

  /** @param params.chunks Chunks of a text; null for one that is a row as it is. */
  #toColumns(
    params: Readonly<{
      encoded: readonly Encoded[];
      texts: readonly string[];
      promptTokens: number;
      chunks: (text: number) => Chunk[] | null;
    }>,
  ): ChunkedTexts {
    const { encoded, texts, promptTokens, chunks } = params;
    const { prefixIds, suffixIds } = this.#tokenizer;
    const specials = prefixIds.length + suffixIds.length;
    const sum = encoded.reduce((all, { ids }) => all + ids.length, 0);
    const expected = { rows: texts.length, tokens: sum + specials * texts.length };
    const rows = new RowBuilder({ ...expected, keepText: this.#options.keepText });
    const counts = new Uint32Array(texts.length);
    const [prefix, suffix] = [Int32Array.from(prefixIds), Int32Array.from(suffixIds)];
    texts.forEach((text, i) => {
      const before = rows.rows;
      const ofText = chunks(i);
      // Most texts are one row, for which no object is created; their tokens have no positions.
      if (ofText === null)
        rows.add({ tokenIds: [prefix, encoded[i]!.ids, suffix], charStart: 0, charEnd: text.length, text });
      else for (const { ids: all, ...values } of ofText) rows.add({ ...values, tokenIds: [all] });
      counts[i] = rows.rows - before;
    });
    return { ...rows.finish(), counts, tokens: Math.max(0, sum - promptTokens * texts.length) };
  }
}

async function idsOf(tokenizer: Tokenizer, prompt: string): Promise<Int32Array> {
  if (prompt === "") return new Int32Array(0);
  const [encoded] = await tokenizer.encode({ texts: [prompt] });
  return encoded!.ids;
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
    const results = await encodePrompted(tokenizer, { texts: which.map((i) => texts[i]!), startsAbove });
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
