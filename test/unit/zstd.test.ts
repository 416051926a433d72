/**
 * Buffers of zstd, by whichever decoder this version of Node.js leads to: `npm run test:node` runs this on versions with
 * a decoder of their own. Every version takes and refuses the same bytes, but for checksums, which only its own checks.
 */
import zlib from "node:zlib";
import { expect, test } from "vitest";
import { unzstd } from "../../producers/sources/zstd.ts";

const TEXT = "hello zstd, hello zstd, hello zstd\n";
const CHECKED = Buffer.from("28b52ffd24239d00006868656c6c6f207a7374642c200a0100574a124c24f8ff", "hex");
const PLAIN = Buffer.from("28b52ffd20239d00006868656c6c6f207a7374642c200a0100574a12", "hex");
const SKIPPABLE = Buffer.from("502a4d1803000000616263", "hex");
const isNative = "zstdDecompressSync" in zlib;

test.each<[string, readonly Buffer[], number]>([
  ["a frame with a checksum", [CHECKED], 1],
  ["a frame without one", [PLAIN], 1],
  ["two frames", [PLAIN, CHECKED], 2],
  ["a frame behind one to skip", [SKIPPABLE, PLAIN], 1],
  ["two frames around one to skip", [CHECKED, SKIPPABLE, PLAIN], 2],
])("%s is decoded whole", (_, parts, times) => {
  expect(Buffer.from(unzstd(Buffer.concat(parts), TEXT.length * times)).toString()).toBe(TEXT.repeat(times));
});

test.each<[string, Uint8Array, number, RegExp]>([
  ["cut short", PLAIN.subarray(0, -3), TEXT.length, /unexpected end of zstd data/],
  ["cut short before its checksum", CHECKED.subarray(0, -2), TEXT.length, /unexpected end of zstd data/],
  [
    "two frames, the second cut short",
    Buffer.concat([PLAIN, PLAIN.subarray(0, -3)]),
    TEXT.length * 2,
    /unexpected end/,
  ],
  ["followed by something else", Buffer.concat([PLAIN, Buffer.from("garbage!")]), TEXT.length, /invalid zstd data/],
  ["with more than was said", PLAIN, TEXT.length - 1, /hold more than the 34 bytes that are said/],
  ["with nothing said", PLAIN, 0, /hold more than the 0 bytes that are said/],
  ["with less than was said", PLAIN, TEXT.length + 1, /hold 35 bytes and 36 are said/],
  [
    "with a window of 2 GiB",
    Buffer.from("28b52ffd00a8010000", "hex"),
    0,
    /at most 134217728 \(--long=27\) are decoded/,
  ],
])("%s is refused", (_, bytes, outputBytes, message) => {
  expect(() => unzstd(bytes, outputBytes)).toThrow(message);
});

test("a wrong checksum is refused where Node.js has a decoder", () => {
  const wrong = Buffer.from(CHECKED);
  wrong[wrong.length - 1]! ^= 1;
  if (isNative) expect(() => unzstd(wrong, TEXT.length)).toThrow(/checksum/);
  else expect(unzstd(wrong, TEXT.length)).toHaveLength(TEXT.length);
});
