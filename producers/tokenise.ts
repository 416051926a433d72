/** Converts documents to chunks, in order: batches of documents go to a chunker, several at a time. */
import type { Document, SourceItem } from "../src/core/documents.ts";
import { nowMs, type Observe } from "../src/core/telemetry.ts";
import { type Chunker, rowsOfTexts } from "./chunking/chunker.ts";
import type { RowSpan } from "./chunking/row-columns.ts";

type RejectedItem = SourceItem & { readonly kind: "reject" };

/** A document with a new id. */
export interface AdmittedDocument {
  /** `unchanged`: the run's base holds its rows. */
  readonly kind: "document" | "unchanged";
  readonly document: Document;
  /** Digest; see `contentHash`. */
  readonly content: Uint8Array;
  /** Present if the document was already cut. */
  readonly rows?: RowSpan;
  /** Number of characters that were replaced in its text; absent for none. */
  readonly replaced?: number;
}

export type AdmittedItem = RejectedItem | AdmittedDocument;

export type TokenisedItem =
  | RejectedItem
  | (AdmittedDocument & { readonly kind: "unchanged" })
  | (AdmittedDocument & { readonly kind: "document"; readonly rows: RowSpan });

const BATCH_DOCUMENTS = 512;
const BATCH_CHARS = 2 * 1024 * 1024;

export type TokeniseParams = Readonly<{ chunker: Chunker; observe: Observe }>;

/**
 * Documents with their rows, and rejects in their place, in batches: awaiting millions of single documents takes longer
 * than adding it to a window.
 */
export async function* tokenise(
  items: AsyncIterable<AdmittedItem>,
  params: TokeniseParams,
): AsyncGenerator<readonly TokenisedItem[]> {
  const inFlight: Promise<TokenisedItem[]>[] = [];
  for await (const batch of batches(items)) {
    const work = tokeniseBatch(batch, params);
    // Awaited in turn below; until then a rejection must not count as unhandled.
    work.catch(() => {});
    inFlight.push(work);
    if (inFlight.length >= params.chunker.batchesInFlight) yield await inFlight.shift()!;
  }
  while (inFlight.length > 0) yield await inFlight.shift()!;
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
  const texts = items.flatMap((item) => (isUncut(item) ? [item.document.text] : []));
  const cut = texts.length === 0 ? [] : await cutTexts(texts, params);
  let text = 0;
  return items.map((item): TokenisedItem => {
    if (item.kind === "reject") return item;
    const { document, content, replaced } = item;
    if (item.kind === "unchanged") return { kind: item.kind, document, content };
    const rows = item.rows ?? cut[text++]!;
    return { kind: item.kind, document, content, rows, ...(replaced !== undefined && { replaced }) };
  });
}

function isUncut(item: AdmittedItem): item is AdmittedDocument {
  return item.kind === "document" && item.rows === undefined;
}

async function cutTexts(texts: readonly string[], params: TokeniseParams): Promise<RowSpan[]> {
  const startedAtMs = nowMs();
  const cut = await params.chunker.cut(texts);
  const { tokens } = cut;
  params.observe({ kind: "tokenised", documents: texts.length, tokens, durationMs: nowMs() - startedAtMs });
  return rowsOfTexts(cut);
}
