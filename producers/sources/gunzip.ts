/**
 * Gzip, member by member. Node's own reader of several members gives up at bytes after the last one that are no gzip,
 * with all that it had inflated and not given out; here every member is read to its end, and such bytes are named.
 */
import { crc32, createInflateRaw, type InflateRaw } from "node:zlib";

const HEADER_BYTES = 10;
const TRAILER_BYTES = 8;
const MAGIC = [0x1f, 0x8b] as const;
const DEFLATE = 8;
const FLAGS = { headerCrc: 2, extra: 4, name: 8, comment: 16, reserved: 0xe0 } as const;

/** @throws Error with the reason, and errors of `chunks` */
export async function* gunzip(chunks: AsyncIterable<Buffer>, blockBytes: number): AsyncGenerator<Buffer> {
  const input = new Input(chunks[Symbol.asyncIterator]());
  try {
    for (let members = 0; await input.begins(members); members++) {
      await skipHeader(input);
      yield* inflated(input, blockBytes);
    }
  } finally {
    await input.close();
  }
}

async function skipHeader(input: Input): Promise<void> {
  const header = await input.read(HEADER_BYTES);
  const flags = header[3]!;
  if (header[2] !== DEFLATE || (flags & FLAGS.reserved) !== 0) throw new Error("it is packed in an unknown way");
  if (flags & FLAGS.extra) await input.read((await input.read(2)).readUInt16LE());
  if (flags & FLAGS.name) await input.skipText();
  if (flags & FLAGS.comment) await input.skipText();
  if (flags & FLAGS.headerCrc) await input.read(2);
}

async function* inflated(input: Input, blockBytes: number): AsyncGenerator<Buffer> {
  // A failing stream drops what nobody has read yet. Without a buffer, it inflates only what is
  // asked for, so a damaged file yields the same lines each time, however fast they are taken.
  const options = { chunkSize: blockBytes, readableHighWaterMark: 1 };
  const inflate = createInflateRaw(options);
  const fed = input.feed(inflate);
  let crc = 0;
  let length = 0;
  try {
    for await (const block of inflate as AsyncIterable<Buffer>) {
      crc = crc32(block, crc);
      length = (length + block.length) % 2 ** 32;
      yield block;
    }
  } finally {
    inflate.destroy();
    await fed;
  }
  const trailer = await input.read(TRAILER_BYTES);
  if (trailer.readUInt32LE(0) !== crc) throw new Error("incorrect data check");
  if (trailer.readUInt32LE(4) !== length) throw new Error("incorrect length check");
}

/** Bytes that are read by number, or fed to a stream, which leaves some. */
class Input {
  readonly #chunks: AsyncIterator<Buffer>;
  #held: Buffer = Buffer.alloc(0);

  constructor(chunks: AsyncIterator<Buffer>) {
    this.#chunks = chunks;
  }

  /** Whether another member begins; zeros may fill the rest of a file. @throws Error for any other bytes */
  async begins(members: number): Promise<boolean> {
    let isPadded = false;
    while (await this.#fill(1)) {
      if (this.#held[0] !== 0) {
        await this.#fill(MAGIC.length);
        if (!isPadded && this.#held[0] === MAGIC[0] && this.#held[1] === MAGIC[1]) return true;
        throw new Error(
          `trailing garbage: bytes that are no gzip follow its ${members === 1 ? "end" : `${members} members`}`,
        );
      }
      isPadded = true;
      const end = this.#held.findIndex((byte) => byte !== 0);
      this.#held = this.#held.subarray(end === -1 ? this.#held.length : end);
    }
    return false;
  }

  async read(bytes: number): Promise<Buffer> {
    if (!(await this.#fill(bytes))) throw new Error("unexpected end of file");
    const read = this.#held.subarray(0, bytes);
    this.#held = this.#held.subarray(bytes);
    return read;
  }

  /** Passes over a text that ends with a zero. */
  async skipText(): Promise<void> {
    while ((await this.read(1))[0] !== 0);
  }

  /** Writes what comes to a stream, until that has enough; the rest stays here. An error of reading becomes the stream's. */
  async feed(inflate: InflateRaw): Promise<void> {
    let written = 0;
    let settle = (): void => {};
    // What is written is never called back when the stream is closed because nobody reads on.
    inflate.once("close", () => settle());
    try {
      while (await this.#fill(1)) {
        const chunk = this.#held;
        written += chunk.length;
        await new Promise<void>((resolve) => {
          settle = resolve;
          inflate.write(chunk, () => {
            this.#held = chunk.subarray(chunk.length - (written - inflate.bytesWritten));
            resolve();
          });
        });
        if (inflate.destroyed || this.#held.length > 0) return;
      }
      inflate.end();
    } catch (error) {
      inflate.destroy(error as Error);
    }
  }

  async close(): Promise<void> {
    await this.#chunks.return?.();
  }

  async #fill(bytes: number): Promise<boolean> {
    while (this.#held.length < bytes) {
      const next = await this.#chunks.next();
      if (next.done === true) return false;
      this.#held = this.#held.length === 0 ? next.value : Buffer.concat([this.#held, next.value]);
    }
    return true;
  }
}
