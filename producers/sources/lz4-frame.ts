/**
 * LZ4 frames (https://github.com/lz4/lz4/blob/dev/doc/lz4_Frame_format.md), as in Arrow's LZ4 bodies. Among the
 * packages, the pure one corrupts frames that Polars writes, and the others are native.
 */

const MAGIC = 0x184d2204;
const INDEPENDENT_HEADER_BYTES = 7;
const UNCOMPRESSED = 0x80000000;
const MIN_MATCH = 4;

/** @throws Error or RangeError when the bytes are not a whole frame, or do not decode to that many bytes. */
export function unlz4(frame: Uint8Array, outputBytes: number): Uint8Array {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
  if (view.getUint32(0, true) !== MAGIC) throw new Error("an LZ4 frame was expected");
  const flags = view.getUint8(4);
  const hasBlockChecksum = (flags & 0x10) !== 0;
  const hasContentChecksum = (flags & 0x04) !== 0;
  let at = INDEPENDENT_HEADER_BYTES + ((flags & 0x08) === 0 ? 0 : 8) + ((flags & 0x01) === 0 ? 0 : 4);
  const output = new Output(outputBytes);
  for (let size = view.getUint32(at, true); size !== 0; size = view.getUint32(at, true)) {
    const bytes = size >= UNCOMPRESSED ? size - UNCOMPRESSED : size;
    const block = frame.subarray(at + 4, at + 4 + bytes);
    if (block.length < bytes) throw new RangeError("an LZ4 block ends early");
    if (size >= UNCOMPRESSED) output.append(block);
    else decodeBlock(block, output);
    at += 4 + bytes;
    if (!hasBlockChecksum) continue;
    assertChecksum(block, view.getUint32(at, true));
    at += 4;
  }
  const whole = output.whole();
  if (hasContentChecksum) assertChecksum(whole, view.getUint32(at + 4, true));
  return whole;
}

function assertChecksum(bytes: Uint8Array, expected: number): void {
  if (xxh32(bytes) !== expected) throw new Error("the checksum of an LZ4 frame does not match its content");
}

const P32 = [0x9e3779b1, 0x85ebca77, 0xc2b2ae3d, 0x27d4eb2f, 0x165667b1] as const;

/** XXH32 with seed 0, the checksum of LZ4 frames. */
export function xxh32(bytes: Uint8Array): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const lanes = Int32Array.of(P32[0] + P32[1], P32[1], 0, -P32[0]);
  let at = 0;
  for (; at + 16 <= bytes.length; at += 16) {
    for (let lane = 0; lane < 4; lane++) {
      const sum = lanes[lane]! + Math.imul(view.getInt32(at + lane * 4, true), P32[1]);
      lanes[lane] = Math.imul(rotate(sum, 13), P32[0]);
    }
  }
  const merged = rotate(lanes[0]!, 1) + rotate(lanes[1]!, 7) + rotate(lanes[2]!, 12) + rotate(lanes[3]!, 18);
  let hash = ((bytes.length < 16 ? P32[4] : merged) + bytes.length) | 0;
  for (; at + 4 <= bytes.length; at += 4)
    hash = Math.imul(rotate(hash + Math.imul(view.getInt32(at, true), P32[2]), 17), P32[3]);
  for (; at < bytes.length; at++) hash = Math.imul(rotate(hash + Math.imul(bytes[at]!, P32[4]), 11), P32[0]);
  hash = Math.imul(hash ^ (hash >>> 15), P32[1]);
  hash = Math.imul(hash ^ (hash >>> 13), P32[2]);
  return (hash ^ (hash >>> 16)) >>> 0;
}

function rotate(value: number, bits: number): number {
  return (value << bits) | (value >>> (32 - bits));
}

/** Decodes a block, which may refer back to the output of earlier blocks. */
function decodeBlock(block: Uint8Array, output: Output): void {
  let at = 0;
  const next = (): number => {
    const byte = block[at++];
    if (byte === undefined) throw new RangeError("an LZ4 block ends early");
    return byte;
  };
  /** A length nibble of fifteen continues in bytes, until one is not 255. */
  const length = (nibble: number): number => {
    let total = nibble;
    if (nibble < 15) return total;
    for (let byte = 255; byte === 255; total += byte) byte = next();
    return total;
  };
  while (at < block.length) {
    const token = next();
    const literals = length(token >> 4);
    if (at + literals > block.length) throw new RangeError("an LZ4 block ends early");
    output.append(block.subarray(at, at + literals));
    at += literals;
    if (at === block.length) return;
    const offset = next() | (next() << 8);
    output.repeat(offset, length(token & 15) + MIN_MATCH);
  }
}

/** Output memory of its own, so that it is aligned to eight bytes, and of the declared size. */
class Output {
  readonly #bytes: Uint8Array;
  #length = 0;

  constructor(bytes: number) {
    this.#bytes = new Uint8Array(bytes);
  }

  append(bytes: Uint8Array): void {
    this.#reserve(bytes.length);
    this.#bytes.set(bytes, this.#length);
    this.#length += bytes.length;
  }

  /** Copies byte by byte if the source overlaps the target, which is how runs are encoded. */
  repeat(offset: number, count: number): void {
    const from = this.#length - offset;
    if (offset === 0 || from < 0) throw new RangeError("an LZ4 block refers to bytes before its beginning");
    this.#reserve(count);
    const bytes = this.#bytes;
    if (offset >= count) bytes.copyWithin(this.#length, from, from + count);
    else for (let i = 0; i < count; i++) bytes[this.#length + i] = bytes[from + i]!;
    this.#length += count;
  }

  whole(): Uint8Array {
    if (this.#length < this.#bytes.length)
      throw new RangeError(`an LZ4 frame holds ${this.#length} bytes and ${this.#bytes.length} are said`);
    return this.#bytes;
  }

  #reserve(count: number): void {
    if (this.#length + count > this.#bytes.length)
      throw new RangeError(`an LZ4 frame holds more than the ${this.#bytes.length} bytes that are said`);
  }
}
