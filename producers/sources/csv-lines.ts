/** Splits the bytes of a table into lines as they are, with their line ends, which may be part of a quoted field. */

const NEWLINE = 10;
const RETURN = 13;

export interface RawLine {
  /** From 1. */
  readonly number: number;
  /** Null for a line above the limit, whose bytes are dropped as they stream past. */
  readonly bytes: Buffer | null;
  /** Length without the line end. */
  readonly length: number;
  /** `\n`, `\r\n` or `\r`; empty at the end of the file. */
  readonly end: string;
}

/**
 * A line ends at `\n` or `\r\n`, whichever comes, so both may occur in one file. A lone `\r` is text, unless the table's
 * first line ends with one.
 */
export class RawLines {
  readonly #maxBytes: number;
  readonly #endsAtReturn: boolean;
  #parts: Buffer[] = [];
  #length = 0;
  #lines = 0;
  /** The last byte was a `\r`, whose line is not finished before the next byte is known. */
  #isAtReturn = false;

  constructor(params: Readonly<{ maxBytes: number; endsAtReturn: boolean }>) {
    this.#maxBytes = params.maxBytes;
    this.#endsAtReturn = params.endsAtReturn;
  }

  /** The lines that end in this chunk. Their bytes may be views of the chunk. */
  *push(chunk: Buffer): Generator<RawLine> {
    let start = 0;
    if (this.#isAtReturn && chunk.length > 0) {
      this.#isAtReturn = false;
      if (chunk[0] === NEWLINE) start = 1;
      yield this.#finish(start === 1 ? "\r\n" : "\r");
    }
    let newline = chunk.indexOf(NEWLINE, start);
    let returned = this.#endsAtReturn ? chunk.indexOf(RETURN, start) : -1;
    while (newline !== -1 || returned !== -1) {
      const isReturn = returned !== -1 && (newline === -1 || returned < newline);
      const at = isReturn ? returned : newline;
      this.#take(chunk.subarray(start, at));
      start = at + 1;
      if (isReturn && start === chunk.length) {
        this.#isAtReturn = true;
        return;
      }
      const isPair = isReturn && newline === start;
      if (isPair) start++;
      yield isReturn ? this.#finish(isPair ? "\r\n" : "\r") : this.#finishAtNewline();
      if (newline !== -1 && newline < start) newline = chunk.indexOf(NEWLINE, start);
      if (returned !== -1 && returned < start) returned = chunk.indexOf(RETURN, start);
    }
    // Streams may reuse a chunk's memory, so the rest is copied.
    if (start < chunk.length) this.#take(Buffer.from(chunk.subarray(start)));
  }

  /** The last line, if the text does not end with a line end. */
  *end(): Generator<RawLine> {
    if (this.#isAtReturn) yield this.#finish("\r");
    else if (this.#length > 0) yield this.#finish("");
  }

  #take(part: Buffer): void {
    this.#length += part.length;
    if (this.#length <= this.#maxBytes) this.#parts.push(part);
    else this.#parts = [];
  }

  #finishAtNewline(): RawLine {
    const line = this.#finish("\n");
    if (line.bytes === null || line.bytes.at(-1) !== RETURN) return line;
    return { ...line, bytes: line.bytes.subarray(0, -1), length: line.length - 1, end: "\r\n" };
  }

  #finish(end: string): RawLine {
    const isKept = this.#length <= this.#maxBytes;
    const bytes = !isKept ? null : this.#parts.length === 1 ? this.#parts[0]! : Buffer.concat(this.#parts);
    const line = { number: ++this.#lines, bytes, length: this.#length, end };
    this.#parts = [];
    this.#length = 0;
    return line;
  }
}

/** Where the first line ends that is not within quotes, and whether with a lone `\r`; -1 if it is longer. */
export function firstLineEnd(head: Buffer, quote: string | null): Readonly<{ at: number; isReturn: boolean }> {
  const mark = quote?.charCodeAt(0);
  let isQuoted = false;
  for (let at = 0; at < head.length; at++) {
    const byte = head[at];
    if (byte === mark) isQuoted = !isQuoted;
    else if (isQuoted) continue;
    else if (byte === NEWLINE) return { at, isReturn: false };
    else if (byte === RETURN) return { at, isReturn: head[at + 1] !== NEWLINE };
  }
  return { at: -1, isReturn: false };
}
