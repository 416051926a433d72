/**
 * Buffers of zstd, by whichever decoder this version of Node.js leads to: `npm run test:node` runs this on versions with
 * a decoder of their own. Every version takes and refuses the same bytes.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { readJsonl } from "../../producers/sources/jsonl.ts";
import { Xxh64 } from "../../producers/sources/xxh64.ts";
import { unzstd, ZstdDecoder } from "../../producers/sources/zstd.ts";
import { FILES } from "../conformance/record-source.suite.ts";
import { randomOf } from "../fixtures/made-corpus.ts";
import { collect, pipeOf, READ_OPTIONS } from "../fixtures/sources.ts";

const TEXT = "hello zstd, hello zstd, hello zstd\n";
const CHECKED = Buffer.from("28b52ffd24239d00006868656c6c6f207a7374642c200a0100574a124c24f8ff", "hex");
const PLAIN = Buffer.from("28b52ffd20239d00006868656c6c6f207a7374642c200a0100574a12", "hex");
const SKIPPABLE = Buffer.from("502a4d1803000000616263", "hex");

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

test("a wrong checksum is refused", () => {
  const wrong = Buffer.from(CHECKED);
  wrong[wrong.length - 1]! ^= 1;
  expect(() => unzstd(wrong, TEXT.length)).toThrow(/checksum of a zstd frame/);
  // Behind another frame, where the decoder of Node.js is not used.
  expect(() => unzstd(Buffer.concat([PLAIN, wrong]), TEXT.length * 2)).toThrow(/checksum of a zstd frame/);
});

test("every flip of a bit in checked frames of real text is found, in a stream of any pieces", async () => {
  const whole = await readFile(join(FILES, "rows.jsonl.zst"));
  const decode = (bytes: Buffer, step: number): string => {
    const decoder = new ZstdDecoder();
    const blocks: Buffer[] = [];
    for (let at = 0; at < bytes.length; at += step)
      for (const block of decoder.push(bytes.subarray(at, at + step))) blocks.push(Buffer.from(block));
    decoder.end();
    return Buffer.concat(blocks).toString();
  };
  const right = await readFile(join(FILES, "rows.jsonl"), "utf8");
  for (const step of [1, 7, 33, 1e9]) expect(decode(whole, step)).toBe(right);
  const random = randomOf(6);
  const accepted = [];
  for (let flip = 0; flip < 120; flip++) {
    const bytes = Buffer.from(whole);
    const bit = Math.floor(random() * bytes.length * 8);
    bytes[bit >> 3]! ^= 1 << (bit & 7);
    try {
      // A frame that has become one to skip, or one without a checksum, is outside of what a checksum protects.
      if (decode(bytes, 1e9) !== right) accepted.push(bit);
    } catch {
      continue;
    }
  }
  expect(accepted).toEqual([]);
});

test("a dictionary that is missing is named", () => {
  const frame = Buffer.from("28b52ffd01402a010000", "hex");
  expect(() => unzstd(frame, 0)).toThrow(/needs the zstd dictionary 42; decompress it with that dictionary/);
});

test.each([
  [
    "bzip2",
    "425a68393141592653597e9bdbf000000a59800010100400103620044a200022264c983d5080680089c942aef89be6141be2ee48a70a120fd37b7e00",
  ],
  [
    "xz",
    "fd377a585a000004e6d6b4460200210116000000742fe5a30100157b226964223a2261222c2274657874223a2262227d0a000000e63992d31b0880b600012e16560955df1fb6f37d010000000004595a",
  ],
])("%s is named as what it is, with what to do", async (kind, hex) => {
  const items = await collect(readJsonl(pipeOf([Buffer.from(hex, "hex")], "f.jsonl"), READ_OPTIONS));
  expect(items).toMatchObject([
    { reject: { reason: "unreadable", detail: expect.stringMatching(`compressed with ${kind}, .* write it as gzip`) } },
  ]);
});

test("XXH64 of any length, in pieces, as another library has it", () => {
  const bytes = Uint8Array.from({ length: 5000 }, (_, i) => ((i * 7919) >> 3) & 255);
  const known = {
    0: 1373170073,
    1: 3674548072,
    3: 1984583941,
    4: 1156959778,
    8: 2910858362,
    31: 4029829300,
    32: 786990020,
    33: 1677513653,
    63: 4262152412,
    64: 2692696380,
    1000: 1279457791,
    4999: 1452057519,
  };
  for (const [length, hash] of Object.entries(known)) {
    const pieces = new Xxh64();
    for (let at = 0; at < Number(length); at += 13)
      pieces.update(bytes.subarray(at, Math.min(Number(length), at + 13)));
    expect([length, pieces.low32()]).toEqual([length, hash]);
  }
});
