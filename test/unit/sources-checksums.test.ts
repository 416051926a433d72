/** Checksums inside of files: of LZ4 frames in Arrow bodies, and of Parquet's pages. zstd has a file of its own. */
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { unlz4, xxh32 } from "../../producers/sources/lz4-frame.ts";
import { FOREIGN, fromFile, fromPipe } from "../fixtures/foreign-files.ts";
import { tempFolder } from "../fixtures/temp-folder.ts";

/** 330 bytes with checksums of blocks and content: python -m pip install lz4, lz4.frame.compress(..., block_checksum=True). */
const FRAME = Buffer.from(
  "04224d187c404a010000000000008c16000000bf68656c6c6f206c7a342c200b00ff28506c7a342c20e40513c900000000e0b016b8",
  "hex",
);

test("XXH32 of any length, as another library has it", () => {
  const bytes = Uint8Array.from({ length: 5000 }, (_, i) => ((i * 7919) >> 3) & 255);
  const known: [number, number][] = [
    [0, 46947589],
    [3, 4131486970],
    [15, 609780630],
    [16, 4042882364],
    [33, 2568499509],
    [4999, 3445626862],
  ];
  expect(known.map(([length]) => [length, xxh32(bytes.subarray(0, length))])).toEqual(known);
});

test("the checksums of an LZ4 frame hold, of its blocks and of its content", () => {
  expect(Buffer.from(unlz4(FRAME, 330)).toString()).toBe("hello lz4, ".repeat(30));
  // A literal, the checksum of the block, the checksum of the content.
  for (const at of [22, FRAME.length - 10, FRAME.length - 1]) {
    const wrong = Buffer.from(FRAME);
    wrong[at]! ^= 1;
    expect(() => unlz4(wrong, 330)).toThrow(/checksum of an LZ4 frame/);
  }
});

test("a flipped bit in a page with a checksum is damage, and not another text", async () => {
  const bytes = await readFile(join(FOREIGN, "pyarrow-checksums.parquet"));
  bytes[bytes.indexOf("lighthouse 2") + 3]! ^= 1;
  const folder = await tempFolder();
  await writeFile(join(folder, "flipped.parquet"), bytes);
  expect(await fromFile(folder, "flipped.parquet")).toMatchObject([
    { reject: { reason: "unreadable", detail: expect.stringMatching(/checksum of a page does not match/) } },
  ]);
});

test("Feather of version 1 is called that", async () => {
  const folder = await tempFolder();
  await writeFile(join(folder, "old.feather"), "FEA1\0\0\0\0 and so on");
  expect(await fromPipe(folder, "old.feather")).toMatchObject([
    { reject: { reason: "unreadable", detail: expect.stringMatching(/Feather version 1.*write it as version 2/) } },
  ]);
});
