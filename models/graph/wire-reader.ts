/** Reads Protocol Buffers' wire format in order from a file of any size; skipped fields are not read. */

/** The input: a file, or bytes in memory. */
export interface WireSource {
  readonly bytes: number;
  /** @returns Number of bytes read, fewer than asked for only at the end. */
  readonly read: (into: Uint8Array, position: number) => number;
}

/** Wire types: a varint, a length-delimited field, and fields of four or eight bytes. */
const VARINT = 0;
const EIGHT_BYTES = 1;
const LENGTH = 2;
const FOUR_BYTES = 5;

/** Size of the read window in bytes. Weights between fields are skipped, so a larger one would be wasted. */
const WINDOW_BYTES = 32 * 1024;
/** Maximum number of fields, read in some 3 seconds; a graph of 100,000 nodes has 5 million. */
const MAX_FIELDS = 2 ** 25;

export class WireReader {
  /** Offset of the next byte. */
  at = 0;
  readonly #source: WireSource;
  readonly #window: Buffer;
  /** Offsets of the window's contents. */
  #start = 0;
  #end = 0;
  #fields = 0;

  constructor(source: WireSource) {
    this.#source = source;
    this.#window = Buffer.alloc(Math.min(source.bytes, WINDOW_BYTES));
  }

  /** @param end End of the message; nothing is read beyond it. @returns The field's number and wire type. */
  tag(end: number): { field: number; type: number } {
    if (++this.#fields > MAX_FIELDS) throw new Error(`it has more than ${MAX_FIELDS} fields`);
    const tag = this.#varint32(end);
    const field = tag >>> 3;
    if (field === 0) throw new Error(`it has a field without a number at byte ${this.at}`);
    return { field, type: tag & 7 };
  }

  /** @returns End offset of the field's bytes; the field must be length-delimited. */
  length(end: number): number {
    const length = this.#varint32(end);
    if (length > end - this.at) throw new Error(`it is cut short at byte ${this.at}`);
    return this.at + length;
  }

  /** An unsigned 64-bit varint. */
  varint(end: number): bigint {
    let value = 0n;
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = this.#byte(end);
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return BigInt.asUintN(64, value);
    }
    throw new Error(`it has a number of more than ten bytes at byte ${this.at}`);
  }

  /** Bytes up to `to`, which the caller has bounded. */
  bytesTo(to: number): Buffer {
    const bytes = Buffer.alloc(to - this.at);
    if (this.#source.read(bytes, this.at) < bytes.length) throw new Error(`it is cut short at byte ${this.at}`);
    this.at = to;
    return bytes;
  }

  /** Skips the value of a field that is not needed. */
  skip(type: number, end: number): void {
    if (type === VARINT) return this.#skipVarint(end);
    if (type === LENGTH) this.at = this.length(end);
    else if (type === EIGHT_BYTES || type === FOUR_BYTES) this.at += type === EIGHT_BYTES ? 8 : 4;
    else throw new Error(`it has a field of the unknown type ${type} at byte ${this.at}`);
    if (this.at > end) throw new Error(`it is cut short at byte ${this.at}`);
  }

  #skipVarint(end: number): void {
    for (let i = 0; i < 10; i++) if (this.#byte(end) < 0x80) return;
    throw new Error(`it has a number of more than ten bytes at byte ${this.at}`);
  }

  /** A tag or a length, at most five bytes long. */
  #varint32(end: number): number {
    let value = 0;
    for (let factor = 1; factor <= 2 ** 28; factor *= 128) {
      const byte = this.#byte(end);
      value += (byte & 0x7f) * factor;
      if (byte < 0x80 && value < 2 ** 32) return value;
    }
    throw new Error(`it has a tag or a length that is too large at byte ${this.at}`);
  }

  #byte(end: number): number {
    if (this.at >= end) throw new Error(`it is cut short at byte ${this.at}`);
    if (this.at < this.#start || this.at >= this.#end) {
      this.#start = this.at;
      this.#end = this.at + this.#source.read(this.#window, this.at);
      if (this.#end === this.at) throw new Error(`it is cut short at byte ${this.at}`);
    }
    return this.#window[this.at++ - this.#start]!;
  }
}
