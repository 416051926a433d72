/**
 * Rows as columns. Documents become columns once, when they are cut, and stay so between threads, in parts' pieces and
 * in windows until they are staged as Arrow.
 */
import { hash } from "node:crypto";
import { type PlannedRows, TEXT_HASH_BYTES, type Utf8Texts } from "../../src/core/rows.ts";

/** Rows of one or more documents in corpus order. Every array may be a view of a larger buffer. */
export type RowColumns = Pick<PlannedRows, "charStarts" | "charEnds" | "textHashes" | "offsets" | "tokenIds"> & {
  /** Texts of the rows; null when the run keeps none. */
  readonly texts: Utf8Texts | null;
};

/** One document's rows: `count` rows of the columns from row `first` on. */
export interface RowSpan {
  readonly columns: RowColumns;
  readonly first: number;
  readonly count: number;
}

/** Values of one row, as they are appended to the columns. */
export interface RowValues {
  /** Token ids, special tokens included, in one array or several that follow one another. */
  readonly tokenIds: readonly Int32Array[];
  /** UTF-16 code units of the document's text. */
  readonly charStart: number;
  readonly charEnd: number;
  /** The row's text as the model receives it. */
  readonly text: string;
}

/** Columns to which rows are appended. */
export class RowBuilder {
  readonly #charStarts: Growing<Uint32Array>;
  readonly #charEnds: Growing<Uint32Array>;
  readonly #offsets: Growing<Uint32Array>;
  readonly #tokenIds: Growing<Int32Array>;
  readonly #textHashes: Growing<Uint8Array>;
  readonly #texts: Utf8Builder | null;

  /** @param params.rows Expected rows. @param params.tokens Expected tokens. Accurate estimates avoid copies. */
  constructor(params: Readonly<{ rows: number; tokens: number; keepText: boolean }>) {
    const { rows, tokens, keepText } = params;
    const uint32 = (length: number): Uint32Array => new Uint32Array(length);
    this.#charStarts = new Growing(uint32, rows);
    this.#charEnds = new Growing(uint32, rows);
    this.#offsets = new Growing(uint32, rows + 1);
    this.#offsets.push(0);
    this.#tokenIds = new Growing((length) => new Int32Array(length), tokens);
    this.#textHashes = new Growing((length) => new Uint8Array(length), rows * TEXT_HASH_BYTES);
    this.#texts = keepText ? new Utf8Builder(rows) : null;
  }

  get rows(): number {
    return this.#charStarts.length;
  }

  add({ tokenIds, charStart, charEnd, text }: RowValues): void {
    const bytes = this.#texts?.add(text);
    // Via text: a buffer for each digest takes three times as long.
    const digest = hash("sha256", bytes ?? text, "hex");
    const at = this.#textHashes.extend(TEXT_HASH_BYTES);
    bufferOf(this.#textHashes.values).write(digest, at, "hex");
    this.#charStarts.push(charStart);
    this.#charEnds.push(charEnd);
    for (const ids of tokenIds) this.#tokenIds.append(ids);
    this.#offsets.push(this.#tokenIds.length);
  }

  finish(): RowColumns {
    return {
      charStarts: this.#charStarts.finish(),
      charEnds: this.#charEnds.finish(),
      textHashes: this.#textHashes.finish(),
      offsets: this.#offsets.finish(),
      tokenIds: this.#tokenIds.finish(),
      texts: this.#texts?.finish() ?? null,
    };
  }
}

/** Every buffer of the columns, for transfer to another thread. */
export function buffersOf({ texts, ...numbers }: RowColumns): ArrayBuffer[] {
  const arrays = [numbers.charStarts, numbers.charEnds, numbers.textHashes, numbers.offsets, numbers.tokenIds];
  if (texts !== null) arrays.push(texts.offsets, texts.bytes);
  return arrays.map(({ buffer }) => buffer as ArrayBuffer);
}

/** Appends texts as UTF-8. */
class Utf8Builder {
  readonly #offsets: Growing<Uint32Array>;
  readonly #bytes = new Growing((length) => new Uint8Array(length), 0);

  constructor(texts: number) {
    this.#offsets = new Growing((length) => new Uint32Array(length), texts + 1);
    this.#offsets.push(0);
  }

  /** @returns The text's bytes, valid until the next text is added. */
  add(text: string): Uint8Array {
    const start = this.#bytes.length;
    this.#bytes.extend(Buffer.byteLength(text));
    bufferOf(this.#bytes.values).write(text, start, "utf8");
    this.#offsets.push(this.#bytes.length);
    return this.#bytes.values.subarray(start, this.#bytes.length);
  }

  finish(): Utf8Texts {
    return { offsets: this.#offsets.finish(), bytes: this.#bytes.finish() };
  }
}

/** A typed array whose capacity doubles when it is full. */
class Growing<T extends Int32Array | Uint32Array | Uint8Array> {
  values: T;
  length = 0;
  readonly #make: (length: number) => T;

  constructor(make: (length: number) => T, expected: number) {
    this.#make = make;
    this.values = make(expected);
  }

  /** @returns Start offset of the new elements. */
  extend(by: number): number {
    const start = this.length;
    this.length += by;
    if (this.length > this.values.length) this.#resize(Math.max(this.length, 2 * start), start);
    return start;
  }

  push(value: number): void {
    const at = this.extend(1);
    this.values[at] = value;
  }

  append(elements: T): void {
    const at = this.extend(elements.length);
    this.values.set(elements, at);
  }

  /** A copy that has exactly the elements. */
  finish(): T {
    if (this.values.length > this.length) this.#resize(this.length, this.length);
    return this.values;
  }

  #resize(capacity: number, used: number): void {
    const resized = this.#make(capacity);
    resized.set(this.values.subarray(0, used));
    this.values = resized;
  }
}

function bufferOf({ buffer, byteOffset, byteLength }: Uint8Array): Buffer {
  return Buffer.from(buffer, byteOffset, byteLength);
}
