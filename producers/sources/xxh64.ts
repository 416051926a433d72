/**
 * XXH64 with seed 0 (https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md), whose lowest 32 bits are the
 * checksum of a zstd frame. 64-bit numbers are pairs of 32-bit halves, because a bigint costs ten times as much.
 */

const STRIPE_BYTES = 32;
/** The primes of the specification: low half, high half. */
const P1 = [0x85ebca87, 0x9e3779b1] as const;
const P2 = [0x27d4eb4f, 0xc2b2ae3d] as const;
const P3 = [0x9e3779f9, 0x165667b1] as const;
const P4 = [0xc2b2ae63, 0x85ebca77] as const;
const P5 = [0x165667c5, 0x27d4eb2f] as const;

type Half = readonly [low: number, high: number];

export class Xxh64 {
  /** Four accumulators, each as low and high half. */
  readonly #lanes = Int32Array.of(...add(P1, P2), ...P2, 0, 0, ...negative(P1));
  readonly #rest = new Uint8Array(STRIPE_BYTES);
  #restBytes = 0;
  #bytes = 0;

  update(bytes: Uint8Array): void {
    this.#bytes += bytes.length;
    let at = 0;
    if (this.#restBytes > 0) {
      at = Math.min(STRIPE_BYTES - this.#restBytes, bytes.length);
      this.#rest.set(bytes.subarray(0, at), this.#restBytes);
      this.#restBytes += at;
      if (this.#restBytes < STRIPE_BYTES) return;
      mixStripes(this.#lanes, this.#rest, 0, STRIPE_BYTES);
      this.#restBytes = 0;
    }
    const end = bytes.length - ((bytes.length - at) % STRIPE_BYTES);
    mixStripes(this.#lanes, bytes, at, end);
    this.#rest.set(bytes.subarray(end));
    this.#restBytes = bytes.length - end;
  }

  /** The lowest 32 bits of the hash of all bytes so far. */
  low32(): number {
    const length: Half = [this.#bytes, Math.floor(this.#bytes / 2 ** 32)];
    let sum = add(this.#bytes < STRIPE_BYTES ? P5 : merged(this.#lanes), length);
    const view = new DataView(this.#rest.buffer);
    let at = 0;
    for (; at + 8 <= this.#restBytes; at += 8) {
      const lane = round([0, 0], [view.getInt32(at, true), view.getInt32(at + 4, true)]);
      sum = add(multiply(rotate(xor(sum, lane), 27), P1), P4);
    }
    if (at + 4 <= this.#restBytes) {
      sum = add(multiply(rotate(xor(sum, multiply([view.getInt32(at, true), 0], P1)), 23), P2), P3);
      at += 4;
    }
    for (; at < this.#restBytes; at++) sum = multiply(rotate(xor(sum, multiply([this.#rest[at]!, 0], P5)), 11), P1);
    sum = multiply(xor(sum, shiftRight(sum, 33)), P2);
    sum = multiply(xor(sum, shiftRight(sum, 29)), P3);
    return xor(sum, shiftRight(sum, 32))[0] >>> 0;
  }
}

/** Mixes whole stripes of 32 bytes into the accumulators. All arithmetic is inline, as this is the time of a checksum. */
function mixStripes(lanes: Int32Array, bytes: Uint8Array, start: number, end: number): void {
  const isAligned = ((bytes.byteOffset + start) & 3) === 0;
  const words = isAligned
    ? new Int32Array(bytes.buffer, bytes.byteOffset + start, (end - start) >> 2)
    : new Int32Array(bytes.slice(start, end).buffer);
  for (let lane = 0; lane < 8; lane += 2) {
    let low = lanes[lane]!;
    let high = lanes[lane + 1]!;
    for (let at = lane; at < words.length; at += 8) {
      // The word times P2, of whose low half 0x27d4eb4f the two parts are 0xeb4f and 0x27d4.
      const wordLow = words[at]!;
      let a0 = wordLow & 0xffff;
      let a1 = wordLow >>> 16;
      let p00 = Math.imul(a0, 0xeb4f);
      let p01 = Math.imul(a0, 0x27d4);
      let p10 = Math.imul(a1, 0xeb4f);
      let middle = (p00 >>> 16) + (p01 & 0xffff) + (p10 & 0xffff);
      const productLow = (p00 & 0xffff) | (middle << 16);
      const productHigh =
        (Math.imul(a1, 0x27d4) +
          (p01 >>> 16) +
          (p10 >>> 16) +
          (middle >>> 16) +
          Math.imul(wordLow, 0xc2b2ae3d) +
          Math.imul(words[at + 1]!, 0x27d4eb4f)) |
        0;
      // Added, with the carry.
      const sumLow = (low + productLow) | 0;
      const sumHigh = (high + productHigh + (sumLow >>> 0 < productLow >>> 0 ? 1 : 0)) | 0;
      // Rotated by 31 bits to the left, which is one to the right with the halves exchanged.
      const turnedLow = (sumHigh << 31) | (sumLow >>> 1);
      const turnedHigh = (sumLow << 31) | (sumHigh >>> 1);
      const rotatedLow = turnedHigh;
      const rotatedHigh = turnedLow;
      // Times P1, whose low half is 0x85ebca87.
      a0 = rotatedLow & 0xffff;
      a1 = rotatedLow >>> 16;
      p00 = Math.imul(a0, 0xca87);
      p01 = Math.imul(a0, 0x85eb);
      p10 = Math.imul(a1, 0xca87);
      middle = (p00 >>> 16) + (p01 & 0xffff) + (p10 & 0xffff);
      low = (p00 & 0xffff) | (middle << 16);
      high =
        (Math.imul(a1, 0x85eb) +
          (p01 >>> 16) +
          (p10 >>> 16) +
          (middle >>> 16) +
          Math.imul(rotatedLow, 0x9e3779b1) +
          Math.imul(rotatedHigh, 0x85ebca87)) |
        0;
    }
    lanes[lane] = low;
    lanes[lane + 1] = high;
  }
}

function merged(lanes: Int32Array): Half {
  const lane = (index: number): Half => [lanes[index * 2]!, lanes[index * 2 + 1]!];
  let sum = add(add(rotate(lane(0), 1), rotate(lane(1), 7)), add(rotate(lane(2), 12), rotate(lane(3), 18)));
  for (let i = 0; i < 4; i++) sum = add(multiply(xor(sum, round([0, 0], lane(i))), P1), P4);
  return sum;
}

function round(sum: Half, word: Half): Half {
  return multiply(rotate(add(sum, multiply(word, P2)), 31), P1);
}

function add(a: Half, b: Half): Half {
  const low = (a[0] >>> 0) + (b[0] >>> 0);
  return [low | 0, (a[1] + b[1] + (low >= 2 ** 32 ? 1 : 0)) | 0];
}

function negative(a: Half): Half {
  return add([~a[0], ~a[1]], [1, 0]);
}

function xor(a: Half, b: Half): Half {
  return [a[0] ^ b[0], a[1] ^ b[1]];
}

function multiply(a: Half, b: Half): Half {
  const [a0, a1, b0, b1] = [a[0] & 0xffff, a[0] >>> 16, b[0] & 0xffff, b[0] >>> 16];
  const [p00, p01, p10] = [Math.imul(a0, b0), Math.imul(a0, b1), Math.imul(a1, b0)];
  const middle = (p00 >>> 16) + (p01 & 0xffff) + (p10 & 0xffff);
  const carried = Math.imul(a1, b1) + (p01 >>> 16) + (p10 >>> 16) + (middle >>> 16);
  return [(p00 & 0xffff) | (middle << 16), (carried + Math.imul(a[0], b[1]) + Math.imul(a[1], b[0])) | 0];
}

/** @param bits 1 to 31 */
function rotate([low, high]: Half, bits: number): Half {
  return [(low << bits) | (high >>> (32 - bits)), (high << bits) | (low >>> (32 - bits))];
}

/** @param bits 1 to 63 */
function shiftRight([low, high]: Half, bits: number): Half {
  if (bits >= 32) return [high >>> (bits - 32), 0];
  return [(low >>> bits) | (high << (32 - bits)), high >>> bits];
}
