/** Texts to chunks: tokenised, cut and hashed, here or wherever else there are cores. */
import { hash } from "node:crypto";
import type { RunOptions } from "../../src/core/contracts.ts";
import type { Encoded, Tokenizer } from "../../src/core/ports.ts";
import { chunk, encodeTitles, outlineOf } from "./strategies.ts";
import { chunkAt, type ChunkColumns, type CutChunk, toColumns } from "./row-columns.ts";

/** What decides how texts are cut, and what is kept of them. */
export type ChunkingOptions = Pick<RunOptions, "chunking" | "chunkTokens" | "overlap" | "keepText">;

/** The chunks of several texts, column-wise: few objects, which cross from thread to thread in no time. */
export interface ChunkedTexts extends ChunkColumns {
  /** Chunks of each text, in order. */
  readonly counts: Uint32Array;
  /** Of the texts themselves, without special tokens. */
  readonly tokens: number;
}

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
    const outlines = texts.map((text) => outlineOf(text, chunking));
    const titles = await encodeTitles(outlines, this.#tokenizer);
    const encoded = await encodeAll({
      tokenizer: this.#tokenizer,
      texts,
      room: maxTokens - prefixIds.length - suffixIds.length,
      isCut: (i) => (outlines[i]?.length ?? 1) > 1,
    });
    const limits = { maxTokens, overlap, prefixIds, suffixIds };
    const chunks = texts.map((text, i) =>
      chunk({ text, encoded: encoded[i]!, outline: outlines[i]!, titles, chunking, ...limits }),
    );
    const tokens = encoded.reduce((sum, { ids }) => sum + ids.length, 0);
    // Field by field: objects made by rest and spread are dictionaries, and all that is done with rows is a third slower.
    const cut = chunks.flat().map(({ ids, charStart, charEnd, text }): CutChunk => {
      return { ids, charStart, charEnd, textHash: hash("sha256", text, "buffer"), text: keepText ? text : null };
    });
    return { counts: Uint32Array.from(chunks, ({ length }) => length), ...toColumns(cut), tokens };
  }
}

/** The chunks of each text. */
export function chunksOf(cut: ChunkedTexts): CutChunk[][] {
  let next = 0;
  return Array.from(cut.counts, (count) => Array.from({ length: count }, () => chunkAt(cut, next++)));
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
