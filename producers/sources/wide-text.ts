/**
 * Text from UTF-16 and its way through readers of bytes. Half of a surrogate pair has no UTF-8; it is written as the
 * three bytes that its code point would have, so that only the line that holds it is affected.
 */
import { isUtf8 } from "node:buffer";

const HALVES = /[\uD800-\uDBFF](?![\uDC00-\uDFFF])|(?<![\uD800-\uDBFF])[\uDC00-\uDFFF]/g;
/** The bytes of half a pair, each as one character. */
const HALF_BYTES = /\xed[\xa0-\xbf][\x80-\xbf]/g;

/** UTF-8, with three bytes for each half of a surrogate pair. */
export function bytesOf(text: string): Buffer {
  if (text.isWellFormed()) return Buffer.from(text);
  const parts: Buffer[] = [];
  let from = 0;
  for (const { index } of text.matchAll(HALVES)) {
    const code = text.charCodeAt(index);
    parts.push(Buffer.from(text.slice(from, index)));
    parts.push(Buffer.from([0xed, 0x80 | ((code >> 6) & 0x3f), 0x80 | (code & 0x3f)]));
    from = index + 1;
  }
  parts.push(Buffer.from(text.slice(from)));
  return Buffer.concat(parts);
}

/** The text of `bytesOf`; null for other bytes that are not UTF-8. */
export function textOf(bytes: Buffer): string | null {
  if (isUtf8(bytes)) return bytes.toString("utf8");
  if (!bytes.includes(0xed)) return null;
  const text: string[] = [];
  let from = 0;
  for (const { index } of bytes.toString("latin1").matchAll(HALF_BYTES)) {
    const whole = bytes.subarray(from, index);
    if (!isUtf8(whole)) return null;
    const code = 0xd000 | ((bytes[index + 1]! & 0x3f) << 6) | (bytes[index + 2]! & 0x3f);
    text.push(whole.toString("utf8"), String.fromCharCode(code));
    from = index + 3;
  }
  const rest = bytes.subarray(from);
  if (from === 0 || !isUtf8(rest)) return null;
  return text.join("") + rest.toString("utf8");
}

/** Decodes UTF-16 in pieces, of which neither a character nor a surrogate pair must be whole. */
export class Utf16Decoder {
  readonly #isBigEndian: boolean;
  #rest: Buffer = Buffer.alloc(0);
  #isFirst = true;

  constructor(isBigEndian: boolean) {
    this.#isBigEndian = isBigEndian;
  }

  push(chunk: Buffer): Buffer {
    const bytes = Buffer.concat([this.#rest, chunk]);
    let end = bytes.length & ~1;
    // The first half of a pair waits for the second.
    if (end >= 2 && (bytes[this.#isBigEndian ? end - 2 : end - 1]! & 0xfc) === 0xd8) end -= 2;
    this.#rest = Buffer.from(bytes.subarray(end));
    return this.#decoded(bytes.subarray(0, end));
  }

  /** @throws Error when the last character is cut in half. */
  end(): Buffer {
    const rest = this.#rest.subarray(0, this.#rest.length & ~1);
    if (rest.length < this.#rest.length) throw new Error("its last character has one byte of two");
    return this.#decoded(rest);
  }

  #decoded(bytes: Buffer): Buffer {
    if (bytes.length === 0) return bytes;
    const text = (this.#isBigEndian ? bytes.swap16() : bytes).toString("utf16le");
    const isMarked = this.#isFirst && text.startsWith("\uFEFF");
    this.#isFirst = false;
    return bytesOf(isMarked ? text.slice(1) : text);
  }
}
