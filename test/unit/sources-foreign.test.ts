/** Arrow and Parquet as pyarrow, Polars, DuckDB, pandas, fastparquet and arrow-js write them, in committed files. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { Dictionary, Int32, tableFromArrays, tableToIPC, Utf8, vectorFromArray } from "apache-arrow";
import { parquetWriteBuffer } from "hyparquet-writer";
import { describe, expect, test } from "vitest";
import { readMessages } from "../../producers/sources/arrow-messages.ts";
import { parseCondition } from "../../src/core/conditions.ts";
import { Decimal, Moment } from "../../src/core/exact.ts";
import {
  columnsOf,
  FOREIGN,
  foreignFiles,
  fromFile,
  fromPipe,
  readForeign,
  usualRows,
} from "../fixtures/foreign-files.ts";
import { brief, collect, pipeOf } from "../fixtures/sources.ts";

const files = await foreignFiles(FOREIGN);

describe.each(files)("$file ($writer: $how)", ({ file, columns, rows = 4 }) => {
  const keep = Object.keys(columns);

  test("every value is exact", async () => {
    const items = await fromFile(FOREIGN, file, { keep });
    expect(columnsOf(items, keep)).toEqual(columns);
    if (rows === 4) expect(items.map(brief)).toEqual(usualRows(rows));
    expect(items).toHaveLength(rows);
  });
});

test.each(files.filter(({ file }) => !file.endsWith(".parquet")))("$file from a pipe", async ({ file, columns }) => {
  const keep = Object.keys(columns);
  expect(columnsOf(await fromPipe(FOREIGN, file, { keep }), keep)).toEqual(columns);
});

describe.each(["pyarrow.arrow", "pyarrow.parquet", "pyarrow-v2.parquet", "polars.arrow", "polars.parquet"])(
  "conditions on %s",
  (file) => {
    test.each<[string, readonly number[]]>([
      ["price=19.99", [0]],
      ["price=19.990", [0]],
      ["price>=19.99", [0, 3]],
      ["price<0", [1]],
      ["price=90071992.54", [3]],
      ["price!=19.99", [1, 2, 3]],
      ["day=2026-01-02", [0]],
      ["day<=2026-01-02", [0, 1]],
      ["day>2026-01-02", [3]],
      ["day>=2026-01-02T00:00:00.000Z", [0, 3]],
      ["day>=2026", [0, 3]],
      ["micro=2026-01-02T03:04:05.123456", [0]],
      ["micro>=2026-01-02T03:04:05.1234561", []],
      ["micro<=2026-01-01", [1, 3]],
      ["nano>2026-01-02T05:04:05+02:00", [0]],
      ["nested.price=19.9", [0]],
      ["nested.n=9007199254740993", [0]],
      ["nested.at<2026-01-02", [3]],
    ])("%s", async (condition, rows) => {
      const items = await fromFile(FOREIGN, file, { where: [parseCondition(condition)] });
      expect(items.map(brief)).toEqual(usualRows(4).filter((_, row) => rows.includes(row)));
    });
  },
);

test.each<[string, string, readonly string[]]>([
  ["pyarrow.arrow", "price", ["19.99", "-0.05", "2:no_id", "90071992.54"]],
  ["pyarrow.parquet", "wide", ["12345678901234567890123456.789", "-0.001", "2:no_id", "0.000"]],
  ["pyarrow.parquet", "day", ["2026-01-02", "1969-12-31", "2:no_id", "2026-12-31"]],
  ["pyarrow.arrow", "fixed", ["00ff", "01ff", "02ff", "03ff"]],
  ["pyarrow.parquet", "fixed", ["00ff", "01ff", "02ff", "03ff"]],
  ["duckdb.parquet", "uuid", [0, 1, 2, 3].map((i) => `00000000-0000-0000-0000-00000000000${i}`)],
])("ids of %s by the column %s", async (file, idField, ids) => {
  const items = await fromFile(FOREIGN, file, { idField });
  const found = items.map((item, i) => (item.kind === "document" ? item.document.id : `${i}:${item.reject.reason}`));
  expect(found).toEqual(ids);
});

test.each(["pyarrow.arrow", "pyarrow.parquet", "polars.arrow", "polars.parquet"])(
  "a list of strings in %s is text, joined by a blank line",
  async (file) => {
    const items = await fromFile(FOREIGN, file, { textFields: ["tags"] });
    expect(items.map((item) => (item.kind === "document" ? item.document.text : item.reject.reason))).toEqual([
      "a\n\nb",
      "empty_text",
      "no_text",
      "c",
    ]);
  },
);

test("binary is text where it is UTF-8", async () => {
  const items = await fromFile(FOREIGN, "pyarrow-kinds.arrow", { textFields: ["bytes", "view"] });
  expect(items.map((item) => item.kind)).toEqual(Array.from({ length: 4 }, () => "document"));
});

test.each(["runs", "listed", "union"])("a column of a kind that is not read is named: %s", async (name) => {
  const items = await fromFile(FOREIGN, "pyarrow-kinds.arrow", { keep: [name] });
  expect(items).toMatchObject([
    {
      reject: { reason: "no_column", detail: expect.stringMatching(/which cannot be read; write it as another type/) },
    },
  ]);
});

test("decimals of Parquet as bytes of any length, as Avro's converters write them", async () => {
  const text = { type: "BYTE_ARRAY", converted_type: "UTF8", repetition_type: "REQUIRED" } as const;
  const logical = { type: "DECIMAL", scale: 2, precision: 30 } as const;
  const bytes = parquetWriteBuffer({
    columnData: [
      { name: "id", data: [Uint8Array.of(0x07, 0xcf), Uint8Array.of(0xfb)] },
      { name: "text", data: ["a", "b"] },
    ],
    schema: [
      { name: "root", num_children: 2 },
      { name: "id", type: "BYTE_ARRAY", logical_type: logical, repetition_type: "REQUIRED" },
      { name: "text", ...text },
    ],
  });
  const source = { ...pipeOf([], "bytes.parquet"), ...rangesOf(Buffer.from(bytes)) };
  expect((await readForeign("bytes.parquet", async () => source)).map(brief)).toEqual(["19.99=a", "-0.05=b"]);
});

test("encrypted Parquet is called that, and columns that are not encrypted are read", async () => {
  expect(await fromFile(FOREIGN, "pyarrow-encrypted.parquet")).toMatchObject([
    { reject: { reason: "unreadable", detail: expect.stringMatching(/is an encrypted Parquet file/) } },
  ]);
  expect(await fromFile(FOREIGN, "pyarrow-encrypted-column.parquet")).toMatchObject([
    { reject: { reason: "no_column", detail: expect.stringMatching(/column text .* is encrypted/) } },
  ]);
});

describe("the end of an Arrow file", () => {
  test.each(["file", "pipe"] as const)("without a footer it is damaged, whatever came before: %s", async (by) => {
    const whole = await readFile(join(FOREIGN, "pyarrow-delta.arrow"));
    // The end mark is the last continuation in the file; the footer follows.
    const mark = whole.lastIndexOf(Buffer.from([0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]));
    for (const end of [mark, mark + 8, whole.length - 1, whole.length - 10]) {
      const bytes = whole.subarray(0, end);
      const source = { ...pipeOf([bytes], "cut.arrow"), ...(by === "file" && rangesOf(bytes)) };
      const items = await readForeign("cut.arrow", async () => source);
      expect(items.filter(({ kind }) => kind === "document")).toHaveLength(60);
      expect(items.at(-1)).toMatchObject({
        reject: { reason: "unreadable", line: 61, detail: expect.stringMatching(/ends early: .* without a footer/) },
      });
    }
  });

  test("an end mark is not needed", async () => {
    const whole = await readFile(join(FOREIGN, "pyarrow-delta.arrow"));
    const mark = whole.lastIndexOf(Buffer.from([0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]));
    const bytes = Buffer.concat([whole.subarray(0, mark), whole.subarray(mark + 8)]);
    for (const source of [pipeOf([bytes], "go.arrow"), { ...pipeOf([bytes], "go.arrow"), ...rangesOf(bytes) }])
      expect(await readForeign("go.arrow", async () => source)).toHaveLength(60);
  });
});

function rangesOf(bytes: Buffer): object {
  return {
    bytes: bytes.length,
    readRange: async ({ start, end }: { start: number; end: number }) => bytes.subarray(start, end),
  };
}

describe("arrow-js", () => {
  const category = vectorFromArray(["x", "y", null, "x"], new Dictionary(new Utf8(), new Int32()));
  const table = tableFromArrays({ id: BigInt64Array.of(0n, 1n, 2n, 2n ** 60n) }).assign(
    tableFromArrays({ text: ["a", "b", "c", "d"] }),
  );
  const withCategory = table.assign(new (table.constructor as new (columns: object) => typeof table)({ category }));

  test.each(["file", "stream"] as const)("tableToIPC as a %s", async (kind) => {
    const bytes = Buffer.from(tableToIPC(withCategory, kind));
    for (const source of [pipeOf([bytes], "js.arrow"), { ...pipeOf([bytes], "js.arrow"), ...rangesOf(bytes) }]) {
      const items = await readForeign("js.arrow", async () => source, { keep: ["category"] });
      expect(items.map(brief)).toEqual(["0=a", "1=b", "2=c", `${2n ** 60n}=d`]);
      expect(columnsOf(items, ["category"])).toEqual({ category: ["x", "y", null, "x"] });
    }
  });
});

test("a dictionary of its own for each of 600 batches costs no more than its own reading", async () => {
  const path = join(FOREIGN, "pyarrow-replaced.arrows");
  const messages = await collect(readMessages(pipeOf([await readFile(path)], "f")));
  const [schema, ...rest] = messages.map(({ bytes }) => bytes);
  const bytes = Buffer.concat([schema!, ...Array.from({ length: 20 }, () => rest).flat()]);
  const values = files.find(({ file }) => file === "pyarrow-replaced.arrows")!.columns["category"]!;
  const items = await readForeign("f", async () => pipeOf([bytes], "f.arrows"), { keep: ["category"] });
  expect(columnsOf(items, ["category"])).toEqual({ category: Array.from({ length: 20 }, () => values).flat() });
});

test("exact numbers and times as text", () => {
  expect([new Decimal(-5n, 2), new Decimal(7n, -2)].map(String)).toEqual(["-0.05", "700"]);
  expect(Moment.parse("soon")).toBeNull();
  expect([Moment.ofTicks(-1n, 9, true), Moment.ofTicks(0n, 0, false), Moment.ofDays(-1)].map(String)).toEqual([
    "1969-12-31T23:59:59.999999999Z",
    "1970-01-01T00:00:00",
    "1969-12-31",
  ]);
  expect(Moment.parse("2026-01-02 03:04:05.5+01:00")?.compare(Moment.parse("2026-01-02T02:04:05.5Z")!)).toBe(0);
});
