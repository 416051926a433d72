/**
 * How much may come of how little: compressed columns of a few kilobytes can say that they are gigabytes, or billions of
 * rows that are all the same.
 */

const MI = 1024 * 1024;
/** Held at one time. Up to the first, whatever it is made of; beyond, in proportion to what it is made of. */
const ANY_RATIO_BYTES = 320 * MI;
const MAX_RATIO = 64;
const MOST_BYTES = 1024 * MI;
/** Ids differ, so that rows take some space, however well they are compressed. */
const ANY_RATIO_ROWS = 4 * MI;
const ROWS_PER_BYTE = 16;
/** Limit, in characters, for texts that columns only refer to: as many as gzip could expand from the same bytes. */
const ANY_RATIO_CHARS = 4096 * MI;
const CHARS_PER_BYTE = 1024;

/** @throws Error that says so when so many bytes cannot be held, or should not be of so few. */
export function assertDecodedBytes(decoded: number, encoded: number): void {
  const most = Math.min(MOST_BYTES, ANY_RATIO_BYTES + encoded * MAX_RATIO);
  if (decoded <= most) return;
  throw new Error(`its ${encoded} bytes decompress to ${decoded}; at most ${most} of them are held at once`);
}

/** @throws Error that says so */
export function assertRows(rows: number, encoded: number): void {
  const most = ANY_RATIO_ROWS + encoded * ROWS_PER_BYTE;
  if (rows > most)
    throw new Error(`its ${encoded} bytes say that they are ${rows} rows; at most ${most} are read of them`);
}

/** The texts of one object, which may be the same one again and again. */
export class TextBudget {
  readonly #most: number;
  #chars = 0;

  /** @param encoded Bytes of the object. */
  constructor(encoded: number) {
    this.#most = ANY_RATIO_CHARS + encoded * CHARS_PER_BYTE;
  }

  /** @throws Error that says so when it is too much */
  take(chars: number): void {
    this.#chars += chars;
    if (this.#chars > this.#most) throw new Error(`its texts have more than ${this.#most} characters together`);
  }
}
