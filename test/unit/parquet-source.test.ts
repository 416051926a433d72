import { createHash } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parquetMetadata } from "hyparquet";
import pl from "nodejs-polars";
import { expect, test } from "vitest";
import { readParquet } from "../../producers/sources/parquet.ts";
import type { RecordOptions } from "../../producers/sources/record.ts";
import { openFileSource } from "../../src/adapters/file/file-source.ts";
import type { SourceItem } from "../../src/core/documents.ts";
import type { ByteRange, ByteSource } from "../../src/core/ports.ts";
import { FILES } from "../conformance/record-source.suite.ts";
import { collect, READ_OPTIONS } from "../fixtures/sources.ts";
import { tempFolder } from "../fixtures/temp-folder.ts";

/** In memory, with a record of what was read. */
class BytesSource implements ByteSource {
  readonly name = "rows.parquet";
  readonly bytes: number;
  readonly ranges: ByteRange[] = [];
  readonly #body: Buffer;

  constructor(body: Buffer) {
    this.#body = body;
    this.bytes = body.length;
  }

  async *stream(): AsyncGenerator<Buffer> {
    yield this.#body;
  }

  async readRange(range: ByteRange): Promise<Buffer> {
    this.ranges.push(range);
    return Buffer.from(new Uint8Array(this.#body.subarray(range.start, range.end)));
  }

  async close(): Promise<void> {}
}

function read(body: Buffer, options: Partial<RecordOptions> = {}): Promise<SourceItem[]> {
  return collect(readParquet(new BytesSource(body), { ...READ_OPTIONS, ...options }));
}

const plain = await readFile(join(FILES, "plain.parquet"));

test("a corrupt row group is one reject that names its rows, and the others are read", async () => {
  const metadata = parquetMetadata(new Uint8Array(plain).buffer);
  const chunk = metadata.row_groups[1]!.columns.find(({ meta_data }) => meta_data?.path_in_schema[0] === "text");
  const start = Number(chunk!.meta_data!.data_page_offset);
  const body = Buffer.from(plain).fill(0xff, start, start + 24);
  const items = await read(body);
  expect(items).toHaveLength(61);
  expect(items[30]).toMatchObject({
    reject: {
      reason: "unreadable",
      file: "rows.parquet",
      line: 31,
      detail: expect.stringContaining("rows 31 to 60 (row group 2 of 3)"),
    },
  });
  const ids = items.flatMap((item) => (item.kind === "document" ? [item.document.id] : []));
  expect(ids).toEqual(Array.from({ length: 60 }, (_, i) => `d${i < 30 ? i : i + 30}`));
});

test.each<[string, Buffer]>([
  ["ends early", plain.subarray(0, -100)],
  ["is empty", Buffer.alloc(0)],
  ["is something else", Buffer.from("id,text\n1,a\n".repeat(10))],
  ["has a damaged footer", Buffer.from(plain).fill(0xff, plain.length - 900, plain.length - 800)],
])("a file that %s is one reject", async (_, body) => {
  expect(await read(body)).toMatchObject([{ reject: { reason: "unreadable", file: "rows.parquet" } }]);
});

test("a text column that is a number is refused by its type", async () => {
  expect(await read(plain, { textFields: ["year"] })).toMatchObject([
    { reject: { reason: "no_column", detail: expect.stringMatching(/year of type INT32.*text \(STRING\)/) } },
  ]);
});

test("nested fields by path; text in them need not be a column", async () => {
  const [first] = await read(plain, {
    textFields: ["meta.source"],
    where: [{ field: "meta.source", operator: "=", value: "s2" }],
  });
  expect(first).toMatchObject({ document: { id: "d2", text: "s2" } });
});

test("only the columns that are needed are fetched", async () => {
  const path = join(await tempFolder(), "wide.parquet");
  const wide = Array.from({ length: 300 }, (_, i) => createHash("sha512").update(String(i)).digest("hex").repeat(8));
  const frame = pl.DataFrame({ wide, id: wide.map((_, i) => `r${i}`), text: wide.map((_, i) => `text ${i}`) });
  frame.writeParquet(path, { compression: "uncompressed" });
  const source = new BytesSource(await readFile(path));
  expect(await collect(readParquet(source, READ_OPTIONS))).toHaveLength(300);
  // After the footer, which is looked for in the last half megabyte.
  const fetched = source.ranges.slice(1).reduce((sum, { start, end }) => sum + end - start, 0);
  expect(source.bytes).toBeGreaterThan(300_000);
  expect(fetched).toBeLessThan(20_000);
});

test("bytes that are not UTF-8 are rejected row by row", async () => {
  const at = plain.indexOf("lighthouse 灯塔 faro, ");
  const body = Buffer.from(plain);
  body[at] = 0xff;
  const items = await read(body);
  expect(items).toHaveLength(90);
  expect(items.filter(({ kind }) => kind === "reject")).toMatchObject([
    { reject: { id: "d0", reason: "invalid_utf8", line: 1 } },
  ]);
});

test("a row group larger than a slice is read in slices, each row once", async () => {
  const rows = 2300;
  const words = "harbour ".repeat(9000);
  const frame = pl.DataFrame({
    id: Array.from({ length: rows }, (_, i) => `r${i}`),
    text: Array.from({ length: rows }, (_, i) => `${i} ${words}`),
  });
  const path = join(await tempFolder(), "large.parquet");
  frame.writeParquet(path, { compression: "zstd" });
  const source = await openFileSource({ path, name: "large.parquet" });
  let next = 0;
  for await (const item of readParquet(source, { ...READ_OPTIONS, maxDocumentBytes: 1024 * 1024 })) {
    if (item.kind !== "document" || item.document.id !== `r${next}` || !item.document.text.startsWith(`${next} `))
      expect.fail(JSON.stringify(item).slice(0, 300));
    next++;
  }
  await source.close();
  expect(next).toBe(rows);
});

test("mutated files end in documents and rejects, never in a crash", async () => {
  let state = 12345;
  const random = (): number => (state = (state * 1103515245 + 12345) % 2147483648) / 2147483648;
  for (let i = 0; i < 150; i++) {
    const body = Buffer.from(plain);
    for (let k = 0; k < 1 + (i % 4); k++) body[Math.floor(random() * body.length)] = Math.floor(random() * 256);
    for (const item of await read(body)) expect(["document", "reject"]).toContain(item.kind);
  }
});

test("a file may be written to after it was read", async () => {
  const path = join(await tempFolder(), "rows.parquet");
  await writeFile(path, plain);
  const source = await openFileSource({ path, name: "rows.parquet" });
  expect(await collect(readParquet(source, READ_OPTIONS))).toHaveLength(90);
  await source.close();
});
