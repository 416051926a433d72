/**
 * Limits on decompression: compressed columns of a few kilobytes can claim to be gigabytes, or billions of
 * identical rows.
 */

const MI = 1024 * 1024;
/** Bytes held at one time at any ratio; beyond, the limit is proportional to the encoded size. */
const ANY_RATIO_BYTES = 320 * MI;
const MAX_RATIO = 64;
const MOST_BYTES = 1024 * MI;
/** Rows at any ratio; more rows need some space, however well they are compressed, as ids differ. */
const ANY_RATIO_ROWS = 4 * MI;
const ROWS_PER_BYTE = 16;
/** Limit, in characters, for texts that columns only refer to: as many as gzip could expand from the same bytes. */
const ANY_RATIO_CHARS = 4096 * MI;
const CHARS_PER_BYTE = 1024;

/** @throws Error with the reason when the decoded bytes exceed the limit for the encoded size. */
export function assertDecodedBytes(decoded: number, encoded: number): void {
  const most = Math.min(MOST_BYTES, ANY_RATIO_BYTES + encoded * MAX_RATIO);
  if (decoded <= most) return;
  throw new Error(`its ${encoded} bytes decompress to ${decoded}; at most ${most} of them are held at once`);
}

/** @throws Error with the reason */
export function assertRows(rows: number, encoded: number): void {
  const most = ANY_RATIO_ROWS + encoded * ROWS_PER_BYTE;
  if (rows > most)
    throw new Error(`its ${encoded} bytes say that they are ${rows} rows; at most ${most} are read of them`);
}

/** Limit on the texts of one object, which may be the same text repeated. */
export class TextBudget {
  readonly #most: number;
  #chars = 0;

  /** @param encoded Size of the object in bytes. */
  constructor(encoded: number) {
    this.#most = ANY_RATIO_CHARS + encoded * CHARS_PER_BYTE;
  }

  /** Counts a text. @throws Error with the reason when the limit is exceeded */
  take(chars: number): void {
    this.#chars += chars;
    if (this.#chars > this.#most) throw new Error(`its texts have more than ${this.#most} characters together`);
  }
}
