import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { expect, test } from "vitest";
import { readArrow } from "../../producers/sources/arrow.ts";
import { readMessages } from "../../producers/sources/arrow-messages.ts";
import type { RecordOptions } from "../../producers/sources/record.ts";
import type { SourceItem } from "../../src/core/documents.ts";
import { FILES } from "../conformance/record-source.suite.ts";
import { randomOf } from "../fixtures/made-corpus.ts";
import { bytesOneByOne, collect, pipeOf, READ_OPTIONS } from "../fixtures/sources.ts";

const plain = await readFile(join(FILES, "plain.arrow"));
const stream = await readFile(join(FILES, "dictionary.arrows"));

function read(body: Buffer | Iterable<Buffer>, options: Partial<RecordOptions> = {}): Promise<SourceItem[]> {
  return collect(
    readArrow(pipeOf(Buffer.isBuffer(body) ? [body] : body, "rows.arrow"), { ...READ_OPTIONS, ...options }),
  );
}

function documents(items: readonly SourceItem[]): number {
  return items.filter(({ kind }) => kind === "document").length;
}

test("a pipe may deliver it in any pieces, and compressed as a whole", async () => {
  expect(documents(await read(bytesOneByOne(stream)))).toBe(90);
  expect(documents(await read(gzipSync(plain)))).toBe(90);
});

test("what is nested, dated or in a dictionary is kept as text", async () => {
  const items = await read(stream, { keep: ["lang", "meta.source", "meta.tags", "day", "number"] });
  expect(items[4]).toMatchObject({ document: { kept: ["en", "s4", '["a","t4"]', "2026-01-05", "4"] } });
});

test("bytes that are not UTF-8 are rejected row by row", async () => {
  const body = Buffer.from(plain);
  body[body.indexOf("faro majakka phare")] = 0xff;
  const items = await read(body);
  expect(items).toHaveLength(90);
  expect(items.filter(({ kind }) => kind === "reject")).toMatchObject([{ reject: { reason: "invalid_utf8" } }]);
});

test("a damaged batch is one reject that names its rows, and the others are read", async () => {
  const messages = await collect(readMessages(pipeOf([plain], "f")));
  expect(messages.map(({ kind, rows }) => [kind, rows])).toEqual([
    ["schema", 0],
    ["batch", 40],
    ["batch", 40],
    ["batch", 10],
  ]);
  const second = plain.indexOf(messages[2]!.bytes);
  const body = Buffer.from(plain);
  // The length of the batch's first column, within its metadata.
  const forty = Buffer.from([40, 0, 0, 0, 0, 0, 0, 0]);
  body[body.indexOf(forty, body.indexOf(forty, second) + 8) + 5] = 1;
  const items = await read(body);
  const rejects = items.flatMap((item) => (item.kind === "reject" ? [item.reject] : []));
  expect(rejects).toMatchObject([{ reason: "unreadable", file: "rows.arrow", line: 41 }]);
});

test.each<[string, Buffer, RegExp, number]>([
  ["ends within a batch", plain.subarray(0, 9000), /ends early/, 40],
  ["is something else", Buffer.from("id,text\n1,a\n".repeat(10)), /does not begin as Arrow/, 0],
])("a file that %s", async (_, body, detail, rows) => {
  const items = await read(body);
  expect(documents(items)).toBe(rows);
  expect(items.at(-1)).toMatchObject({
    reject: { reason: "unreadable", detail: expect.stringMatching(detail), line: rows + 1 },
  });
});

test("an empty file is no document", async () => {
  expect(await read(Buffer.alloc(0))).toEqual([]);
});

test("a text column that is a number is refused by its type", async () => {
  expect(await read(plain, { textFields: ["year"] })).toMatchObject([
    { reject: { reason: "no_column", detail: expect.stringMatching(/year of type Int32.*text \(Utf8\)/) } },
  ]);
});

test("mutated files end in documents and rejects, never in a crash or without end", async () => {
  const random = randomOf(7);
  for (const original of [plain, stream])
    for (let i = 0; i < 200; i++) {
      const body = Buffer.from(original);
      for (let k = 0; k < 1 + (i % 4); k++) body[Math.floor(random() * body.length)] = Math.floor(random() * 256);
      for (const item of await read(body)) expect(["document", "reject"]).toContain(item.kind);
    }
});
