/**
 * Zstandard frames (RFC 8878), block by block: at most 128 KiB are decoded at a time, only the window is held,
 * and both sizes are known before they are allocated. `fzstd` decodes the blocks; by itself it would allocate any
 * window that a frame asks for, and move all of it for every block.
 */
import zlib from "node:zlib";
import { Decompress } from "fzstd";
import { Xxh64 } from "./xxh64.ts";

const MAGIC = 0xfd2fb528;
const SKIPPABLE = 0x184d2a50;
const MAX_BLOCK_BYTES = 128 * 1024;
/** Limit on the window of a page or buffer, `--long=27`. */
const MAX_WINDOW_BYTES = 128 * 1024 * 1024;
/** Limit on the window of a stream, `--long=31`, the largest that the `zstd` command writes. */
const MAX_STREAM_WINDOW_BYTES = 2 * 1024 * 1024 * 1024;
/**
 * Output of a frame with a larger window that is decoded. `fzstd` reads too few bits of a reference that goes back
 * further than this, and would copy other bytes without an error. The limit also bounds the memory.
 */
const EXACT_BYTES = 64 * 1024 * 1024;
/** Size above which a stream that expands more than this often is refused as a decompression bomb. */
const MAX_RATIO_FROM_BYTES = 1024 * 1024 * 1024;
const MAX_RATIO = 2048;
/** Frame header: largest blocks, no size, no checksum, and a window of one block; `History` has the real one. */
const PLAIN_HEADER = Uint8Array.of(0x28, 0xb5, 0x2f, 0xfd, 0x00, 7 << 3);
const DICTIONARY_ID_BYTES = [0, 1, 2, 4] as const;
const RLE_BLOCK = 1;
const RESERVED_BLOCK = 3;
const WRONG_CHECKSUM = "the checksum of a zstd frame does not match its content";

/** State of `fzstd` for a frame: its window, and where in it the next block begins. */
interface FrameState {
  w: Uint8Array;
  e: number;
}

interface Frame {
  readonly inflater: Decompress;
  /** Hash of the frame's output; null for a frame without a checksum. */
  readonly hash: Xxh64 | null;
  readonly windowBytes: number;
  /** Size of the output so far. */
  bytes: number;
}

/**
 * Decodes a page or buffer of known size. Node.js's own decoder is used if it exists, within the same limits.
 * @throws Error when the bytes are not whole frames, or do not decode to that many bytes.
 */
export function unzstd(bytes: Uint8Array, outputBytes: number): Uint8Array {
  return unzstdNatively(bytes, outputBytes) ?? unzstdByBlocks(bytes, outputBytes);
}

function unzstdByBlocks(bytes: Uint8Array, outputBytes: number): Uint8Array {
  const history = new FixedHistory(outputBytes);
  const decoder = new ZstdDecoder(history);
  for (const _ of decoder.push(bytes));
  decoder.end();
  return history.whole();
}

export class ZstdDecoder {
  readonly #history: History;
  #parts: Uint8Array[] = [];
  #have = 0;
  #need = 4;
  #skip = 0;
  #frame: Frame | null = null;
  /** The checksum that the next four bytes must have; null elsewhere. */
  #checksum: number | null = null;
  #decoded: Uint8Array[] = [];
  #bytesIn = 0;
  #bytesOut = 0;

  constructor(history: History = new SlidingHistory()) {
    this.#history = history;
  }

  /** The blocks that end in these bytes. @throws Error after the blocks that precede the damage */
  *push(bytes: Uint8Array): Generator<Uint8Array> {
    this.#bytesIn += bytes.length;
    for (let at = 0; at < bytes.length;) {
      const from = at;
      at = Math.min(bytes.length, at + (this.#skip > 0 ? this.#skip : this.#need - this.#have));
      if (this.#skip > 0) {
        this.#skip -= at - from;
        continue;
      }
      this.#parts.push(bytes.subarray(from, at));
      this.#have += at - from;
      if (this.#have === this.#need) yield* this.#step();
    }
    // Streams may reuse a chunk's memory, so the rest is copied.
    const last = this.#parts.pop();
    if (last !== undefined) this.#parts.push(Buffer.from(last));
  }

  /** Ends the input. @throws Error when the last frame is incomplete */
  end(): void {
    if (this.#frame !== null || this.#checksum !== null || this.#have > 0 || this.#skip > 0)
      throw new Error("unexpected end of zstd data");
  }

  /** Processes the bytes once as many as needed have arrived. */
  *#step(): Generator<Uint8Array> {
    const all = this.#parts.length === 1 ? Buffer.from(this.#parts[0]!) : Buffer.concat(this.#parts);
    const need = this.#checksum !== null ? 4 : this.#frame === null ? frameHeaderBytes(all) : blockBytes(all);
    if (need > all.length) {
      this.#need = need;
      return;
    }
    this.#parts = [];
    this.#have = 0;
    if (this.#checksum !== null) this.#verify(this.#checksum, all.readUInt32LE(0));
    else if (this.#frame === null) this.#begin(all);
    else yield* this.#block(this.#frame, all);
    this.#need = this.#frame === null ? 4 : 3;
  }

  #begin(header: Buffer): void {
    if (isSkippable(header)) {
      this.#skip = header.readUInt32LE(4);
      return;
    }
    const { windowBytes, hasChecksum, dictionary } = readFrameHeader(header);
    if (dictionary !== 0)
      throw new Error(`it needs the zstd dictionary ${dictionary}; decompress it with that dictionary (zstd -d -D)`);
    const { maxWindowBytes } = this.#history;
    if (windowBytes > maxWindowBytes)
      throw new Error(
        `its window has ${windowBytes} bytes; at most ${maxWindowBytes} (--long=${Math.log2(maxWindowBytes)}) are decoded`,
      );
    this.#history.begin(Math.min(windowBytes, EXACT_BYTES));
    const inflater = new Decompress((block) => {
      if (block.length > 0) this.#take(block, inflater);
    });
    inflater.push(PLAIN_HEADER);
    this.#frame = { inflater, hash: hasChecksum ? new Xxh64() : null, windowBytes, bytes: 0 };
  }

  *#block(frame: Frame, block: Buffer): Generator<Uint8Array> {
    const { inflater, hash, windowBytes } = frame;
    const isLast = (block[0]! & 1) === 1;
    this.#decoded = [];
    inflater.push(block, isLast);
    for (const decoded of this.#decoded) {
      hash?.update(decoded);
      frame.bytes += decoded.length;
    }
    if (windowBytes > EXACT_BYTES && frame.bytes > EXACT_BYTES)
      throw new Error(
        `its window has ${windowBytes} bytes; of a frame with more than ${EXACT_BYTES} (--long=26), only as many are decoded: compress it again without --long`,
      );
    if (isLast) {
      this.#frame = null;
      this.#checksum = hash?.low32() ?? null;
    }
    yield* this.#decoded;
  }

  #verify(found: number, expected: number): void {
    this.#checksum = null;
    if (found !== expected) throw new Error(WRONG_CHECKSUM);
  }

  #take(block: Uint8Array, inflater: Decompress): void {
    this.#bytesOut += block.length;
    if (this.#bytesOut > MAX_RATIO_FROM_BYTES && this.#bytesOut > this.#bytesIn * MAX_RATIO)
      throw new Error(`${this.#bytesIn} bytes of zstd expand to more than ${this.#bytesOut}`);
    this.#history.append(block);
    this.#decoded.push(block);
    // The decoder now moves its window and appends the block. With an empty window, it uses the history instead.
    const frame = (inflater as unknown as { s: FrameState }).s;
    const none = new Uint8Array(0);
    none.set = () => {
      frame.w = this.#history.bytes;
      frame.e = this.#history.length;
    };
    frame.w = none;
  }
}

// --- Node.js's own decoder ------------------------------------------------------------------------------------

/** Missing in the types of Node.js 20; available from 22.15 on. */
const { zstdDecompressSync, constants } = zlib as {
  readonly zstdDecompressSync?: (bytes: Uint8Array, options: object) => Uint8Array;
  readonly constants: Readonly<Record<string, number>>;
};
const WINDOW_LOG_MAX = constants["ZSTD_d_windowLogMax"];

/**
 * Decodes exactly one whole frame with a window within limits: Node.js 22 stops after the first frame and
 * accepts a truncated one, and 24 ignores what follows a frame. It is therefore not used for streams.
 * @returns Null when it cannot or must not decode the bytes. @throws Error when the frame's checksum is wrong.
 */
function unzstdNatively(bytes: Uint8Array, outputBytes: number): Uint8Array | null {
  if (zstdDecompressSync === undefined || WINDOW_LOG_MAX === undefined || !isOneFrame(bytes)) return null;
  const params = { [WINDOW_LOG_MAX]: Math.log2(MAX_WINDOW_BYTES) };
  try {
    const output = zstdDecompressSync(bytes, { maxOutputLength: Math.max(1, outputBytes), params });
    return output.length === outputBytes ? output : null;
  } catch (error) {
    if ((error as { code?: unknown }).code === "ZSTD_error_checksum_wrong")
      throw new Error(WRONG_CHECKSUM, { cause: error });
    // The other decoder reports any other problem in the same words on every version of Node.js.
    return null;
  }
}

/** Whether the bytes are one frame, from header to checksum, without decoding a block. */
function isOneFrame(bytes: Uint8Array): boolean {
  const all = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (all.length < 5 || all.readUInt32LE(0) !== MAGIC) return false;
  let at = frameHeaderBytes(all);
  if (at > all.length) return false;
  const { windowBytes, hasChecksum, dictionary } = readFrameHeader(all);
  if (windowBytes > MAX_WINDOW_BYTES || dictionary !== 0) return false;
  for (let isLast = false; !isLast;) {
    if (at + 3 > all.length) return false;
    isLast = (all[at]! & 1) === 1;
    at += blockBytes(all.subarray(at, at + 3));
  }
  return at + (hasChecksum ? 4 : 0) === all.length;
}

// --- Headers --------------------------------------------------------------------------------------------------

function isSkippable(header: Buffer): boolean {
  return (header.readUInt32LE(0) & 0xfffffff0) >>> 0 === SKIPPABLE;
}

/** Size of the frame's header, as far as the available bytes tell. */
function frameHeaderBytes(head: Buffer): number {
  if (isSkippable(head)) return 8;
  if (head.readUInt32LE(0) !== MAGIC) throw new Error("invalid zstd data");
  if (head.length < 5) return 5;
  const flags = head[4]!;
  const isSingle = (flags & 0x20) !== 0;
  return 5 + (isSingle ? 0 : 1) + DICTIONARY_ID_BYTES[flags & 3]! + sizeBytes(flags);
}

function sizeBytes(flags: number): number {
  const kind = flags >> 6;
  if (kind > 0) return 1 << kind;
  return (flags & 0x20) === 0 ? 0 : 1;
}

function readFrameHeader(header: Buffer): { windowBytes: number; hasChecksum: boolean; dictionary: number } {
  const flags = header[4]!;
  if ((flags & 8) !== 0) throw new Error("invalid zstd data");
  const isSingle = (flags & 0x20) !== 0;
  const idAt = isSingle ? 5 : 6;
  const idBytes = DICTIONARY_ID_BYTES[flags & 3]!;
  const dictionary = idBytes === 0 ? 0 : header.readUIntLE(idAt, idBytes);
  const hasChecksum = (flags & 4) !== 0;
  if (!isSingle) {
    const base = 2 ** (10 + (header[5]! >> 3));
    return { windowBytes: base + (base / 8) * (header[5]! & 7), hasChecksum, dictionary };
  }
  const at = idAt + idBytes;
  const bytes = sizeBytes(flags);
  const size = bytes === 8 ? Number(header.readBigUInt64LE(at)) : header.readUIntLE(at, bytes);
  return { windowBytes: bytes === 2 ? size + 256 : size, hasChecksum, dictionary };
}

/** Size of a block with its header, of which the first three bytes are available. */
function blockBytes(head: Buffer): number {
  const header = head.readUIntLE(0, 3);
  const kind = (header >> 1) & 3;
  const size = header >> 3;
  if (kind === RESERVED_BLOCK || size > MAX_BLOCK_BYTES) throw new Error("invalid zstd block");
  return kind === RLE_BLOCK ? 4 : 3 + size;
}

// --- What blocks refer back to --------------------------------------------------------------------------------

interface History {
  readonly maxWindowBytes: number;
  readonly bytes: Uint8Array;
  /** Number of filled bytes. */
  readonly length: number;
  begin(windowBytes: number): void;
  append(block: Uint8Array): void;
}

/** The last window, and room for as much again, so that it is rarely moved. */
class SlidingHistory implements History {
  readonly maxWindowBytes = MAX_STREAM_WINDOW_BYTES;
  bytes = new Uint8Array(2 * MAX_BLOCK_BYTES);
  length = 0;
  #windowBytes = 0;

  begin(windowBytes: number): void {
    this.#windowBytes = Math.max(windowBytes, MAX_BLOCK_BYTES);
    this.length = 0;
  }

  append(block: Uint8Array): void {
    if (this.length + block.length > this.bytes.length) {
      const kept = Math.min(this.length, this.#windowBytes);
      const limit = 2 * this.#windowBytes;
      if (kept + block.length > this.bytes.length / 2 && this.bytes.length < limit) {
        const grown = new Uint8Array(Math.min(limit, this.bytes.length * 2));
        grown.set(this.bytes.subarray(this.length - kept, this.length));
        this.bytes = grown;
      } else this.bytes.copyWithin(0, this.length - kept, this.length);
      this.length = kept;
    }
    this.bytes.set(block, this.length);
    this.length += block.length;
  }
}

/** The complete output, of a declared size. */
class FixedHistory implements History {
  readonly maxWindowBytes = MAX_WINDOW_BYTES;
  readonly bytes: Uint8Array;
  length = 0;

  constructor(bytes: number) {
    this.bytes = new Uint8Array(bytes);
  }

  begin(): void {}

  append(block: Uint8Array): void {
    if (this.length + block.length > this.bytes.length)
      throw new Error(`zstd data hold more than the ${this.bytes.length} bytes that are said`);
    this.bytes.set(block, this.length);
    this.length += block.length;
  }

  whole(): Uint8Array {
    if (this.length < this.bytes.length)
      throw new Error(`zstd data hold ${this.length} bytes and ${this.bytes.length} are said`);
    return this.bytes;
  }
}
