/** Texts to chunks: tokenised, cut and hashed, here or wherever else there are cores. */
import { hash } from "node:crypto";
import type { RunOptions } from "../src/core/contracts.ts";
import type { Encoded, Tokenizer } from "../src/core/ports.ts";
import { TEXT_HASH_BYTES } from "../src/core/rows.ts";
import type { Chunk } from "./chunker.ts";
import { chunk, encodeTitles, outlineOf } from "./chunking.ts";

/** What decides how texts are cut, and what is kept of them. */
export type CutOptions = Pick<RunOptions, "chunking" | "chunkTokens" | "overlap" | "keepText">;

/** The chunks of several texts, column-wise: few objects, which cross from thread to thread in no time. */
export interface CutTexts {
  /** Chunks of each text, in order. */
  readonly counts: Uint32Array;
  /** UTF-16 code units of the text. */
  readonly charStarts: Uint32Array;
  readonly charEnds: Uint32Array;
  /** SHA-256 of each chunk's text: [chunks * 32] */
  readonly textHashes: Uint8Array;
  /** Chunk `i` has the ids `tokenIds[offsets[i] .. offsets[i + 1])`, special tokens included. */
  readonly offsets: Uint32Array;
  readonly tokenIds: Int32Array;
  /** The chunks' texts when the run keeps them. */
  readonly texts: readonly string[] | null;
  /** Of the texts themselves, without special tokens. */
  readonly tokens: number;
}

export interface Cutter {
  /** Batches that are worth having in flight, so that none of its threads waits. */
  readonly batchesInFlight: number;
  cut(texts: readonly string[]): Promise<CutTexts>;
}

export class LocalCutter implements Cutter {
  /** While one batch is tokenised the next is read and the one before is hashed. */
  readonly batchesInFlight = 2;
  readonly #tokenizer: Tokenizer;
  readonly #options: CutOptions;

  constructor(params: Readonly<{ tokenizer: Tokenizer; options: CutOptions }>) {
    this.#tokenizer = params.tokenizer;
    this.#options = params.options;
  }

  async cut(texts: readonly string[]): Promise<CutTexts> {
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
    return { ...toColumns(chunks, keepText), tokens };
  }
}

function toColumns(ofTexts: readonly (readonly Chunk[])[], keepText: boolean): Omit<CutTexts, "tokens"> {
  const chunks = ofTexts.flat();
  const offsets = new Uint32Array(chunks.length + 1);
  chunks.forEach(({ ids }, i) => (offsets[i + 1] = offsets[i]! + ids.length));
  const tokenIds = new Int32Array(offsets[chunks.length]!);
  const textHashes = new Uint8Array(chunks.length * TEXT_HASH_BYTES);
  chunks.forEach(({ ids, text }, i) => {
    tokenIds.set(ids, offsets[i]);
    textHashes.set(hash("sha256", text, "buffer"), i * TEXT_HASH_BYTES);
  });
  return {
    counts: Uint32Array.from(ofTexts, ({ length }) => length),
    charStarts: Uint32Array.from(chunks, ({ charStart }) => charStart),
    charEnds: Uint32Array.from(chunks, ({ charEnd }) => charEnd),
    textHashes,
    offsets,
    tokenIds,
    texts: keepText ? chunks.map(({ text }) => text) : null,
  };
}

/** Of a document; its ids and hash are views of the batch that it was cut in. */
export interface CutChunk extends Pick<Chunk, "ids" | "charStart" | "charEnd"> {
  readonly textHash: Uint8Array;
  readonly text: string | null;
}

/** The chunks of each text. */
export function chunksOf(cut: CutTexts): CutChunk[][] {
  let next = 0;
  return Array.from(cut.counts, (count) => Array.from({ length: count }, () => chunkAt(cut, next++)));
}

function chunkAt(cut: CutTexts, i: number): CutChunk {
  return {
    ids: cut.tokenIds.subarray(cut.offsets[i], cut.offsets[i + 1]),
    charStart: cut.charStarts[i]!,
    charEnd: cut.charEnds[i]!,
    textHash: cut.textHashes.subarray(i * TEXT_HASH_BYTES, (i + 1) * TEXT_HASH_BYTES),
    text: cut.texts?.[i] ?? null,
  };
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
