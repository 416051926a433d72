/** Small inputs that say they are large, or are: each costs what it is worth, or is refused with a reason. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import pl from "nodejs-polars";
import { describe, expect, test } from "vitest";
import { outlineOf } from "../../producers/chunking/strategies.ts";
import { readArrow } from "../../producers/sources/arrow.ts";
import { readMessages } from "../../producers/sources/arrow-messages.ts";
import { readCsv } from "../../producers/sources/csv.ts";
import { assertDecodedBytes, assertRows, TextBudget } from "../../producers/sources/expansion.ts";
import { htmlText } from "../../producers/sources/html.ts";
import { readJsonl } from "../../producers/sources/jsonl.ts";
import { readParquet } from "../../producers/sources/parquet.ts";
import { unzstd, ZstdDecoder } from "../../producers/sources/zstd.ts";
import { openFileSource } from "../../src/adapters/file/file-source.ts";
import type { SourceItem } from "../../src/core/documents.ts";
import { FILES } from "../conformance/record-source.suite.ts";
import { brief, bytesOneByOne, collect, pipeOf, READ_OPTIONS } from "../fixtures/sources.ts";
import { tempFolder } from "../fixtures/temp-folder.ts";

const MI = 1024 * 1024;

/** Of this process, by all of its threads: on a busy machine it says more than a clock. */
async function cpuSeconds(work: () => Promise<unknown>): Promise<number> {
  const before = process.cpuUsage();
  await work();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1e6;
}

test("gzipped newlines are passed over as fast as they are inflated, and are counted", async () => {
  const blank = 15_000_000;
  const bytes = gzipSync(`${"\n".repeat(blank)}{"id":"a","text":"b"}\nno json`);
  expect(bytes.length).toBeLessThan(16 * 1024);
  let items: SourceItem[] = [];
  const seconds = await cpuSeconds(async () => {
    items = await collect(readJsonl(pipeOf([bytes], "f.jsonl"), READ_OPTIONS));
  });
  expect(items).toMatchObject([{ document: { origin: { line: blank + 1 } } }, { reject: { line: blank + 2 } }]);
  expect(seconds).toBeLessThan(3);
});

test.each([
  ["a row of commas", `id,text\na,b\n${",".repeat(2_000_000)}\nc,d\n`, 1024, "too_long", /2000000 bytes/],
  [
    "a row of commas within the limit",
    `id,text\na,b\n${",".repeat(2_000_000)}\nc,d\n`,
    4 * MI,
    "not_csv",
    /2000001 fields/,
  ],
  [
    "a row of many fields, each within the limit",
    `id,text\na,b\n${`${"x".repeat(1000)},`.repeat(2000)}\nc,d\n`,
    1024,
    "too_long",
    /allows 1024/,
  ],
])("%s is one reject of a CSV file, and says so", async (_, text, maxDocumentBytes, reason, detail) => {
  const options = { ...READ_OPTIONS, maxDocumentBytes, format: "csv" as const };
  const items = await collect(readCsv(pipeOf([gzipSync(text)], "f.csv"), options));
  expect(items.map(brief)).toEqual(["a=b", `3:${reason}`, "c=d"]);
  expect(items[1]).toMatchObject({ reject: { detail: expect.stringMatching(detail) } });
});

test("lines of quotes that never close are not read again and again", async () => {
  const names = Array.from({ length: 50_000 }, (_, i) => `c${i}`).join(",");
  const text = `id,text,${names}\n${'a","\n'.repeat(200_000)}`;
  const options = { ...READ_OPTIONS, maxDocumentBytes: MI, format: "csv" as const };
  let items: SourceItem[] = [];
  const seconds = await cpuSeconds(async () => {
    items = await collect(readCsv(pipeOf([gzipSync(text)], "f.csv"), options));
  });
  expect(items.every((item) => item.kind === "reject" && item.reject.reason === "not_csv")).toBe(true);
  expect(seconds).toBeLessThan(10);
});

test("a header of commas is refused", async () => {
  const chunks = [gzipSync(`${",".repeat(2_000_000)}\n`)];
  const items = await collect(readCsv(pipeOf(chunks, "f.csv"), { ...READ_OPTIONS, format: "csv" }));
  expect(items).toMatchObject([{ reject: { reason: "unreadable", detail: expect.stringContaining("100000 fields") } }]);
});

test("a value that is nested deeper than the stack is a reject where it is kept, and no matter where not", async () => {
  const deep = 100_000;
  const line = Buffer.from(`{"id":"a","text":"b","x":${"[".repeat(deep)}${"]".repeat(deep)}}\n`);
  const options = { ...READ_OPTIONS, maxDocumentBytes: MI };
  const read = (keep: string[]): Promise<SourceItem[]> => collect(readJsonl(pipeOf([line], "f"), { ...options, keep }));
  expect((await read([])).map(brief)).toEqual(["a=b"]);
  expect(await read(["x"])).toMatchObject([{ reject: { reason: "too_long", id: "a" } }]);
});

test("a page of elements within elements is refused at a depth that no author reaches", () => {
  const nested = (depth: number, end: string): Buffer =>
    Buffer.from(`${"<div>".repeat(depth)}text${end.repeat(depth)}`);
  expect(htmlText(nested(1000, "</div>"))).toBe("text");
  for (const end of ["", "</div>", "</i>"]) expect(() => htmlText(nested(300_000, end))).toThrow(/nests more than/);
});

test("headings under a heading that is longer than a chunk are not put together with it", async () => {
  const outline = outlineOf(`# ${"word ".repeat(50_000)}\n${"## a\nb\n".repeat(3)}`, "markdown");
  expect(outline).toHaveLength(3);
});

// --- zstd -----------------------------------------------------------------------------------------------------

/** A frame without a size, of a window of 2^(10 + exponent) bytes, and blocks of zeros. */
function zstdFrame(exponent: number, blocks: readonly number[]): Buffer {
  const header = Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0x00, exponent << 3]);
  const runs = blocks.map((bytes, i) => {
    const run = Buffer.alloc(4);
    run.writeUIntLE((bytes << 3) | (1 << 1) | (i === blocks.length - 1 ? 1 : 0), 0, 3);
    return run;
  });
  return Buffer.concat([header, ...runs]);
}

function decoded(bytes: Buffer): number {
  const decoder = new ZstdDecoder();
  let length = 0;
  for (const block of decoder.push(bytes)) length += block.length;
  decoder.end();
  return length;
}

describe("zstd", () => {
  test("the largest window costs no more for each small block than a small one", async () => {
    const blocks = Array.from({ length: 20_000 }, () => 1);
    const seconds = await cpuSeconds(async () => expect(decoded(zstdFrame(17, blocks))).toBe(20_000));
    // Moved on for every block, the window alone would be 2.6 TB of copies.
    expect(seconds).toBeLessThan(3);
  });

  test("a window of --long=31 is not allocated before the output needs it, and a larger one is refused", () => {
    const before = process.memoryUsage().arrayBuffers;
    expect(decoded(zstdFrame(21, [1, 100_000]))).toBe(100_001);
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(4 * MI);
    expect(() => decoded(zstdFrame(22, [1]))).toThrow(/window has 4294967296 bytes/);
  });

  test("beyond 64 MiB of output, where references would be misread, a larger window is refused", () => {
    const blocks = (bytes: number): number[] => Array.from({ length: bytes / (128 * 1024) }, () => 128 * 1024);
    expect(decoded(zstdFrame(17, blocks(64 * MI)))).toBe(64 * MI);
    expect(() => decoded(zstdFrame(17, [...blocks(64 * MI), 1]))).toThrow(/compress it again without --long/);
    expect(decoded(zstdFrame(16, [...blocks(64 * MI), 1]))).toBe(64 * MI + 1);
  });

  test("what was said is what is given, and not a byte more is made", () => {
    const frame = zstdFrame(17, [100_000, 100_000]);
    expect(Buffer.compare(unzstd(frame, 200_000), new Uint8Array(200_000))).toBe(0);
    expect(() => unzstd(frame, 150_000)).toThrow(/more than the 150000/);
    expect(() => unzstd(frame, 250_000)).toThrow(/hold 200000 bytes/);
  });

  test("frames that follow each other, empty and skippable ones, come in pieces of any size", async () => {
    const whole = await readFile(join(FILES, "rows.jsonl.zst"));
    const skippable = Buffer.from([0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3]);
    const bytes = Buffer.concat([whole, skippable, zstdFrame(7, [0]), whole]);
    const read = (chunks: Iterable<Buffer>): Promise<SourceItem[]> =>
      collect(readJsonl(pipeOf(chunks, "f.jsonl.zst"), READ_OPTIONS));
    const once = await read([whole]);
    expect(once.length).toBeGreaterThan(10);
    expect((await read([bytes])).length).toBe(2 * once.length);
    expect(await read(bytesOneByOne(bytes))).toEqual(await read([bytes]));
    expect((await read([bytes.subarray(0, -1)])).at(-1)).toMatchObject({ reject: { reason: "unreadable" } });
  });
});

// --- Columns --------------------------------------------------------------------------------------------------

test("what comes of little is bounded, and a large batch of much is read", () => {
  expect(() => assertDecodedBytes(256 * MI, 1000)).not.toThrow();
  expect(() => assertDecodedBytes(1024 * MI, 1000)).toThrow(/decompress to/);
  expect(() => assertDecodedBytes(1024 * MI, 64 * MI)).not.toThrow();
  expect(() => assertDecodedBytes(1025 * MI, 900 * MI)).toThrow(/decompress to/);
  expect(() => assertRows(4 * MI, 100)).not.toThrow();
  expect(() => assertRows(2 ** 31, 100)).toThrow(/rows/);
  const budget = new TextBudget(1000);
  budget.take(4096 * MI);
  expect(() => budget.take(2 * MI)).toThrow(/characters together/);
});

async function arrowOf(compression: "zstd" | "lz4"): Promise<Buffer> {
  const path = join(await tempFolder(), "rows.arrow");
  const text = Array.from({ length: 300 }, (_, i) => `text ${i}`);
  pl.DataFrame({ id: text, text }).writeIPC(path, { compression });
  return readFile(path);
}

/** The file with another size before its first compressed buffer of strings. */
async function withSize(bytes: Buffer, change: (size: bigint) => bigint): Promise<Buffer> {
  const messages = await collect(readMessages(pipeOf([bytes], "f")));
  const batch = messages.find(({ kind }) => kind === "batch")!;
  const at = bytes.indexOf(batch.bytes);
  const magic = [Buffer.from([0x28, 0xb5, 0x2f, 0xfd]), Buffer.from([0x04, 0x22, 0x4d, 0x18])];
  const first = Math.min(...magic.map((mark) => bytes.indexOf(mark, at)).filter((place) => place >= 0));
  const changed = Buffer.from(bytes);
  changed.writeBigInt64LE(change(bytes.readBigInt64LE(first - 8)), first - 8);
  return changed;
}

test.each(["zstd", "lz4"] as const)("an Arrow batch of %s is held to what its buffers say", async (compression) => {
  const bytes = await arrowOf(compression);
  const read = (body: Buffer): Promise<SourceItem[]> => collect(readArrow(pipeOf([body], "f.arrow"), READ_OPTIONS));
  expect((await read(bytes)).every(({ kind }) => kind === "document")).toBe(true);
  for (const [size, reason] of [
    [() => 2n ** 40n, /decompress to/],
    [() => -7n, /decompress to/],
    [(said: bigint) => said - 1n, /more than the/],
    [(said: bigint) => said + 8n, /are said/],
  ] as const) {
    const items = await read(await withSize(bytes, size));
    expect(items).toMatchObject([{ reject: { reason: "unreadable", line: 1, detail: expect.stringMatching(reason) } }]);
  }
});

/** Runs a module's text with so little memory for objects that all rows at once would not fit. */
async function inLittleMemory(megabytes: number, program: string): Promise<{ code: number | null; output: string }> {
  const args = [`--max-old-space-size=${megabytes}`, "--input-type=module", "--eval", program];
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "ignore"] });
  let output = "";
  child.stdout.on("data", (chunk: Buffer) => (output += chunk.toString()));
  const [code] = (await once(child, "close")) as [number | null];
  return { code, output };
}

test("the rows of a compressed Arrow batch are made one at a time", async () => {
  const rows = 500_000;
  const path = join(await tempFolder(), "rows.arrow");
  const id = pl.Series(
    "id",
    Int32Array.from({ length: rows }, (_, i) => i),
  );
  pl.DataFrame([id.cast(pl.Utf8), id.cast(pl.Utf8).alias("text")]).writeIPC(path, { compression: "zstd" });
  const root = fileURLToPath(new URL("../../dist/", import.meta.url));
  const { code, output } = await inLittleMemory(
    40,
    `import { readArrow } from ${JSON.stringify(`${root}producers/sources/arrow.js`)};
     import { openFileSource } from ${JSON.stringify(`${root}src/adapters/file/file-source.js`)};
     const source = await openFileSource({ path: ${JSON.stringify(path)}, name: "rows.arrow" });
     let rows = 0;
     for await (const { kind } of readArrow(source, ${JSON.stringify(READ_OPTIONS)})) if (kind === "document") rows++;
     console.log(rows);`,
  );
  expect({ code, output }).toEqual({ code: 0, output: `${rows}\n` });
});

// --- Parquet --------------------------------------------------------------------------------------------------

async function readParquetBytes(bytes: Buffer): Promise<SourceItem[]> {
  const path = join(await tempFolder(), "rows.parquet");
  await writeFile(path, bytes);
  const source = await openFileSource({ path, name: "rows.parquet" });
  try {
    return await collect(readParquet(source, READ_OPTIONS));
  } finally {
    await source.close();
  }
}

async function parquetOf(
  compression: "uncompressed" | "snappy" | "gzip" | "brotli" | "zstd",
  rows: number,
): Promise<Buffer> {
  const path = join(await tempFolder(), "rows.parquet");
  const text = Array.from({ length: rows }, (_, i) => `text ${i % 7}`);
  pl.DataFrame({ id: text.map((_, i) => `r${i}`), text }).writeParquet(path, { compression });
  return readFile(path);
}

test.each(["uncompressed", "snappy", "gzip", "brotli", "zstd"] as const)(
  "Parquet pages of %s are read",
  async (codec) => {
    const items = await readParquetBytes(await parquetOf(codec, 500));
    expect(items.map(brief).slice(0, 2)).toEqual(["r0=text 0", "r1=text 1"]);
    expect(items.filter(({ kind }) => kind === "document")).toHaveLength(500);
  },
);

test("a run that says it is more values than its page has is refused before it is made", async () => {
  const bytes = await parquetOf("uncompressed", 500);
  // The levels of 500 values that are all there: one run of two bytes, and the value one.
  const run = Buffer.from([0xe8, 0x07, 0x01]);
  const forged = Buffer.from(bytes);
  let runs = 0;
  for (let at = forged.indexOf(run); at >= 0; at = forged.indexOf(run, at + 3)) {
    forged.set([0xfe, 0x7f], at);
    runs++;
  }
  expect(runs).toBeGreaterThan(0);
  const items = await readParquetBytes(forged);
  expect(items).toMatchObject([{ reject: { detail: expect.stringContaining("a run claims 8191 of") } }]);
});
