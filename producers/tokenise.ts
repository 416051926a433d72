/** Documents to chunks, in order: batches of documents go to the tokenizer, which uses all cores. */
import type { Document, SourceItem } from "../src/core/documents.ts";
import type { Encoded, Tokenizer } from "../src/core/ports.ts";
import { nowMs, type Observe } from "../src/core/telemetry.ts";
import type { Chunk } from "./chunker.ts";
import { type Chunking, chunk, encodeTitles, outlineOf } from "./chunking.ts";

type RejectedItem = SourceItem & { readonly kind: "reject" };

/** A document whose id was not met before. */
export interface AdmittedDocument {
  /** `unchanged`: the run's base holds its rows. */
  readonly kind: "document" | "unchanged";
  readonly document: Document;
  /** See `contentHash`. */
  readonly content: Uint8Array;
}

export type AdmittedItem = RejectedItem | AdmittedDocument;

export type TokenisedItem =
  | RejectedItem
  | (AdmittedDocument & { readonly kind: "unchanged" })
  | (AdmittedDocument & { readonly kind: "document"; readonly chunks: readonly Chunk[] });

const BATCH_DOCUMENTS = 512;
const BATCH_CHARS = 2 * 1024 * 1024;
/** While one batch is tokenised the next is read and the one before is hashed. */
const BATCHES_IN_FLIGHT = 2;

export type TokeniseParams = Readonly<{
  tokenizer: Tokenizer;
  chunking: Chunking;
  /** Of a chunk, special tokens included. */
  maxTokens: number;
  overlap: number;
  observe: Observe;
}>;

export async function* tokenise(
  items: AsyncIterable<AdmittedItem>,
  params: TokeniseParams,
): AsyncGenerator<TokenisedItem> {
  const inFlight: Promise<TokenisedItem[]>[] = [];
  for await (const batch of batches(items)) {
    const work = tokeniseBatch(batch, params);
    // Awaited in turn below; until then a rejection must not count as unhandled.
    work.catch(() => {});
    inFlight.push(work);
    if (inFlight.length >= BATCHES_IN_FLIGHT) yield* await inFlight.shift()!;
  }
  while (inFlight.length > 0) yield* await inFlight.shift()!;
}

async function* batches(items: AsyncIterable<AdmittedItem>): AsyncGenerator<AdmittedItem[]> {
  let batch: AdmittedItem[] = [];
  let chars = 0;
  for await (const item of items) {
    batch.push(item);
    if (item.kind === "document") chars += item.document.text.length;
    if (batch.length < BATCH_DOCUMENTS && chars < BATCH_CHARS) continue;
    yield batch;
    batch = [];
    chars = 0;
  }
  if (batch.length > 0) yield batch;
}

async function tokeniseBatch(items: readonly AdmittedItem[], params: TokeniseParams): Promise<TokenisedItem[]> {
  const { tokenizer, chunking, maxTokens, overlap } = params;
  const { prefixIds, suffixIds } = tokenizer;
  const texts = items.flatMap((item) => (item.kind === "document" ? [item.document.text] : []));
  const startedAtMs = nowMs();
  const outlines = texts.map((text) => outlineOf(text, chunking));
  const titles = await encodeTitles(outlines, tokenizer);
  const encoded = await encodeAll({
    tokenizer,
    texts,
    room: maxTokens - prefixIds.length - suffixIds.length,
    isCut: (i) => (outlines[i]?.length ?? 1) > 1,
  });
  params.observe({
    kind: "tokenised",
    documents: texts.length,
    tokens: encoded.reduce((sum, { ids }) => sum + ids.length, 0),
    durationMs: nowMs() - startedAtMs,
  });
  let document = 0;
  return items.map((item): TokenisedItem => {
    if (item.kind === "reject") return item;
    if (item.kind === "unchanged") return { ...item, kind: item.kind };
    const chunks = chunk({
      text: item.document.text,
      encoded: encoded[document]!,
      outline: outlines[document++]!,
      titles,
      chunking,
      maxTokens,
      overlap,
      prefixIds,
      suffixIds,
    });
    return { ...item, kind: item.kind, chunks };
  });
}

/**
 * Positions of tokens cost time and only texts that are cut need them. A text of fewer characters
 * than a row has room for is not cut, save when normalisation lengthens it; then it is encoded again.
 */
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
  const encode = async (which: readonly number[], withStarts: boolean): Promise<void> => {
    if (which.length === 0) return;
    const results = await tokenizer.encode({ texts: which.map((i) => texts[i]!), withStarts });
    results.forEach((result, k) => (encoded[which[k]!] = result));
  };
  const all = [...texts.keys()];
  await encode(
    all.filter((i) => texts[i]!.length <= room && !isCut(i)),
    false,
  );
  await encode(
    all.filter((i) => texts[i]!.length > room || isCut(i)),
    true,
  );
  await encode(
    all.filter((i) => encoded[i]!.ids.length > room && encoded[i]!.starts.length === 0),
    true,
  );
  return encoded;
}
