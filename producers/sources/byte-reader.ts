/** Takes pieces of known size, or up to a mark, from a stream of bytes. */
export class ByteReader {
  readonly #chunks: AsyncIterator<Buffer>;
  #held: Buffer = Buffer.alloc(0);
  #hasEnded = false;

  constructor(chunks: AsyncIterable<Buffer>) {
    this.#chunks = chunks[Symbol.asyncIterator]();
  }

  /** True when nothing but line ends is left. */
  get isAtEnd(): boolean {
    return this.#hasEnded && this.#held.every((byte) => byte === 10 || byte === 13);
  }

  /**
   * The bytes before the next mark that is not at the very beginning; the mark is taken too.
   * @returns Null if there is none in the next `most` bytes.
   */
  async takeUntil(mark: Buffer, most: number): Promise<Buffer | null> {
    for (let from = 0; ;) {
      // Records end with the same line ends.
      const start = this.#held.findIndex((byte) => byte !== 10 && byte !== 13);
      const at = start === -1 ? -1 : this.#held.indexOf(mark, Math.max(start, from));
      if (at !== -1) {
        const found = this.#held.subarray(0, at);
        this.#held = this.#held.subarray(at + mark.length);
        return found;
      }
      if (this.#held.length > most) return null;
      from = Math.max(0, this.#held.length - mark.length);
      if (!(await this.#more())) return null;
    }
  }

  /** Exactly so many bytes; null if there are fewer. */
  async take(bytes: number): Promise<Buffer | null> {
    const parts: Buffer[] = [];
    const isWhole = await this.#pass(bytes, (part) => parts.push(part));
    return isWhole ? Buffer.concat(parts) : null;
  }

  /** False if there are fewer bytes. */
  async skip(bytes: number): Promise<boolean> {
    return this.#pass(bytes, () => {});
  }

  async close(): Promise<void> {
    await this.#chunks.return?.();
  }

  async #pass(bytes: number, to: (part: Buffer) => void): Promise<boolean> {
    let left = bytes;
    while (left > 0) {
      if (this.#held.length === 0 && !(await this.#more())) return false;
      const part = this.#held.subarray(0, left);
      this.#held = this.#held.subarray(part.length);
      left -= part.length;
      to(part);
    }
    return true;
  }

  async #more(): Promise<boolean> {
    const next = await this.#chunks.next();
    if (next.done === true) this.#hasEnded = true;
    // Streams may reuse a chunk's memory.
    else this.#held = Buffer.concat([this.#held, next.value]);
    return !this.#hasEnded;
  }
}
