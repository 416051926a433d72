/** Documents with their rows in the columns that they were cut into, which can be gathered in any order. */
import { type KeptColumn, type StagedRows, TEXT_HASH_BYTES, textHashOf, type Utf8Texts } from "../src/core/rows.ts";
import type { Document } from "../src/core/documents.ts";
import type { RowSpan } from "./chunking/row-columns.ts";

interface Entry extends RowSpan {
  readonly id: string;
  readonly kept: readonly (string | null)[];
  /** Number of the document's first row among all rows. */
  readonly start: number;
}

/** Rows of documents in corpus order. Nothing is copied before rows are gathered. */
export class DocumentRows {
  readonly #documents: Entry[] = [];
  #rows = 0;
  #tokens = 0;
  #textChars = 0;

  get rows(): number {
    return this.#rows;
  }

  /** Number of tokens of all rows, special tokens included. */
  get tokens(): number {
    return this.#tokens;
  }

  /** UTF-16 code units of all texts and kept fields; those of a document count for each of its rows. */
  get textChars(): number {
    return this.#textChars;
  }

  add({ id, kept = [] }: Pick<Document, "id" | "kept">, span: RowSpan): void {
    const { columns, first, count } = span;
    const keptChars = kept.reduce((chars, value) => chars + (value?.length ?? 0), 0);
    this.#documents.push({ id, kept, start: this.#rows, columns, first, count });
    this.#rows += count;
    this.#tokens += columns.offsets[first + count]! - columns.offsets[first]!;
    this.#textChars += keptChars * count + (columns.texts === null ? 0 : charsOf(columns.texts, first, first + count));
  }

  /** An index of all rows, with the columns that determine their order. */
  index(): RowIndex {
    return new RowIndex(this.#documents, this.#rows);
  }
}

/** The location of each row. Rows are numbered in corpus order from 0. */
class RowIndex {
  /** Number of tokens of each row, special tokens included. */
  readonly lengths: Uint32Array;
  /** UTF-8 bytes of each row's id, text and kept fields. */
  readonly carriedBytes: Uint32Array;
  readonly #documents: readonly Entry[];
  /** Index of each row's document. */
  readonly #documentOf: Uint32Array;

  constructor(documents: readonly Entry[], rows: number) {
    this.#documents = documents;
    this.lengths = new Uint32Array(rows);
    this.carriedBytes = new Uint32Array(rows);
    this.#documentOf = new Uint32Array(rows);
    documents.forEach(({ id, kept, start, columns: { offsets, texts }, first, count }, document) => {
      const bytes = kept.reduce((sum, value) => sum + Buffer.byteLength(value ?? ""), Buffer.byteLength(id));
      for (let chunk = 0; chunk < count; chunk++) {
        const at = first + chunk;
        this.lengths[start + chunk] = offsets[at + 1]! - offsets[at]!;
        this.carriedBytes[start + chunk] = bytes + (texts === null ? 0 : texts.offsets[at + 1]! - texts.offsets[at]!);
        this.#documentOf[start + chunk] = document;
      }
    });
  }

  /** The first row with the same text, for each row. */
  firstsOfTexts(): Uint32Array {
    const firsts = new Map<string, number>();
    return this.lengths.map((_, row) => {
      const { columns, start, first } = this.#at(row);
      const hash = textHashOf(columns, first + row - start);
      const key = Buffer.from(hash.buffer, hash.byteOffset, hash.byteLength).toString("latin1");
      const found = firsts.get(key) ?? row;
      firsts.set(key, found);
      return found;
    });
  }

  /** @param order Row numbers. @param keep Names of the kept fields. */
  gather(order: Uint32Array, keep: readonly string[]): StagedRows {
    const documents = Array.from(order, (row) => this.#at(row));
    const at = order.map((row, i) => documents[i]!.first + row - documents[i]!.start);
    const offsets = new Uint32Array(order.length + 1);
    order.forEach((row, i) => (offsets[i + 1] = offsets[i]! + this.lengths[row]!));
    const tokenIds = new Int32Array(offsets[order.length]!);
    const textHashes = new Uint8Array(order.length * TEXT_HASH_BYTES);
    documents.forEach(({ columns }, i) => {
      const from = at[i]!;
      tokenIds.set(columns.tokenIds.subarray(columns.offsets[from], columns.offsets[from + 1]), offsets[i]);
      textHashes.set(textHashOf(columns, from), i * TEXT_HASH_BYTES);
    });
    return {
      ids: documents.map(({ id }) => id),
      chunks: order.map((row, i) => row - documents[i]!.start),
      charStarts: at.map((from, i) => documents[i]!.columns.charStarts[from]!),
      charEnds: at.map((from, i) => documents[i]!.columns.charEnds[from]!),
      textHashes,
      offsets,
      tokenIds,
      texts: gatherTexts(documents, at),
      kept: keep.map((name, i): KeptColumn => ({ name, values: documents.map(({ kept }) => kept[i] ?? null) })),
    };
  }

  #at(row: number): Entry {
    return this.#documents[this.#documentOf[row]!]!;
  }
}

/** @param at For each row, its index in its document's columns. */
function gatherTexts(documents: readonly Entry[], at: Uint32Array): Utf8Texts | null {
  if (documents[0] === undefined || documents[0].columns.texts === null) return null;
  const offsets = new Uint32Array(at.length + 1);
  at.forEach((from, i) => {
    const texts = documents[i]!.columns.texts!;
    offsets[i + 1] = offsets[i]! + texts.offsets[from + 1]! - texts.offsets[from]!;
  });
  const bytes = new Uint8Array(offsets[at.length]!);
  at.forEach((from, i) => {
    const texts = documents[i]!.columns.texts!;
    bytes.set(texts.bytes.subarray(texts.offsets[from], texts.offsets[from + 1]), offsets[i]);
  });
  return { offsets, bytes };
}

const UTF8_CONTINUATION = 0b1000_0000;
const UTF8_LEAD_MASK = 0b1100_0000;
const FIRST_LEAD_OF_FOUR = 0xf0;

/** UTF-16 code units of texts `from` to `to`: one per character, two for each that has four bytes. */
function charsOf({ offsets, bytes }: Utf8Texts, from: number, to: number): number {
  let chars = 0;
  for (let at = offsets[from]!; at < offsets[to]!; at++) {
    const byte = bytes[at]!;
    if ((byte & UTF8_LEAD_MASK) !== UTF8_CONTINUATION) chars += byte >= FIRST_LEAD_OF_FOUR ? 2 : 1;
  }
  return chars;
}
