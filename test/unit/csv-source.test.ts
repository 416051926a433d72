import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { describe, expect, onTestFinished, test } from "vitest";
import { readCsv } from "../../producers/sources/csv.ts";
import type { RecordOptions } from "../../producers/sources/record.ts";
import { openFileSource } from "../../src/adapters/file/file-source.ts";
import type { SourceItem } from "../../src/core/documents.ts";
import { brief, bytesOneByOne, collect, pipeOf, READ_OPTIONS } from "../fixtures/sources.ts";
import { tempFolder } from "../fixtures/temp-folder.ts";

async function read(
  content: string | Buffer | Iterable<Buffer>,
  options: Partial<RecordOptions> & { format?: "csv" | "tsv" } = {},
): Promise<SourceItem[]> {
  const chunks = typeof content === "string" || Buffer.isBuffer(content) ? [Buffer.from(content)] : content;
  return collect(readCsv(pipeOf(chunks, "rows.csv"), { ...READ_OPTIONS, format: "csv", ...options }));
}

/** Each item after the line that it is said to begin at. */
async function placed(...args: Parameters<typeof read>): Promise<string[]> {
  return (await read(...args)).map((item) =>
    item.kind === "document" ? `${item.document.origin.line}:${item.document.text}` : brief(item),
  );
}

describe("what a table may be", () => {
  test.each([
    ["quotes, newlines and blank lines", 'id,text\n1,a\n2,"b\nb ""x"""\n\n3,c', ["2:a", '3:b\nb "x"', "6:c"]],
    ["CRLF, also within quotes", 'id,text\r\n1,"a\r\nb"\r\n2,c\r\n', ["2:a\r\nb", "4:c"]],
    ["a byte order mark", "\uFEFFid,text\n1,a\n", ["2:a"]],
    [
      "quotes where none belong",
      'id,text\n1,he said "hi" to me\n2,"a" b\n3,c\n',
      ['2:he said "hi" to me', '3:"a" b', "4:c"],
    ],
    ["semicolons", "id;text\n1;a, b\n", ["2:a, b"]],
    ["other columns, in any order", "x,text,y,id\n,a,,1\n", ["2:a"]],
    ["spaces around names", "id , text\n1,a\n", ["2:a"]],
    ["a header alone", "id,text\n", []],
    ["nothing", "", []],
    ["UTF-16", Buffer.from("\uFEFFid,text\n1,灯塔\n", "utf16le"), ["2:灯塔"]],
  ])("%s", async (_, content, expected) => {
    expect(await placed(content)).toEqual(expected);
    expect(await placed(bytesOneByOne(Buffer.from(content)))).toEqual(expected);
  });

  test("TSV", async () => {
    expect(await placed('id\ttext\n1\ta, b\n2\t"c\td"\n', { format: "tsv" })).toEqual(["2:a, b", "3:c\td"]);
  });
});

describe("what is refused, at its line, while the rows around it stand", () => {
  test.each<[string, string | Buffer, string[]]>([
    ["too few and too many fields", "id,text\n1,a\n2\n3,c,d\n4,e\n", ["2:a", "3:not_csv", "4:not_csv", "5:e"]],
    ["an empty id or text", "id,text\n,a\n2,\n3,c\n", ["2:no_id", "3:empty_text", "4:c"]],
    [
      "bytes that are not UTF-8",
      Buffer.from("id,text\n1,a\n2,caf\xe9\n3,c\n", "latin1"),
      ["2:a", "3:invalid_utf8", "4:c"],
    ],
    ["a quote that is never closed", 'id,text\n1,a\n2,"b\n3,c\n4,d\n', ["2:a", "3:not_csv", "4:c", "5:d"]],
    ["a row that is too long", `id,text\n1,a\n2,${"x".repeat(2000)}\n3,c\n`, ["2:a", "3:too_long", "4:c"]],
  ])("%s", async (_, content, expected) => {
    expect(await placed(content)).toEqual(expected);
    expect(await placed(bytesOneByOne(Buffer.from(content)))).toEqual(expected);
  });

  test("a ragged row says how many fields it has, and where", async () => {
    const [item] = await read("id,text,lang\n1,a\n");
    expect(item).toMatchObject({
      reject: { file: "rows.csv", line: 2, detail: expect.stringMatching(/2 fields.*3/) },
    });
  });

  test("columns that are not text need not be valid UTF-8", async () => {
    expect(await placed(Buffer.from("id,text,x\n1,a,\xe9\n", "latin1"))).toEqual(["2:a"]);
  });
});

describe("files that fail midway", () => {
  const rows = `id,text\n${Array.from({ length: 20_000 }, (_, i) => `${i},"text\nof ${Math.sin(i)}"\n`).join("")}`;

  test.each<[string, (gzip: Buffer) => Buffer]>([
    ["ends early", (gzip) => gzip.subarray(0, gzip.length - 8)],
    ["ends in the middle", (gzip) => gzip.subarray(0, gzip.length >> 1)],
    ["is damaged", (gzip) => Buffer.from(gzip).fill(0xff, gzip.length >> 1, (gzip.length >> 1) + 2000)],
  ])("gzip that %s: whole rows before it are read, whatever the reader's pace", async (_, damage) => {
    const path = join(await tempFolder(), "rows.csv.gz");
    await writeFile(path, damage(gzipSync(rows)));
    const readFile = async (pauses: boolean): Promise<SourceItem[]> => {
      const source = await openFileSource({ path, name: "rows.csv.gz" });
      onTestFinished(() => source.close());
      const items: SourceItem[] = [];
      for await (const item of readCsv(source, { ...READ_OPTIONS, format: "csv" })) {
        items.push(item);
        if (pauses && items.length % 1000 === 0) await new Promise((resolve) => setImmediate(resolve));
      }
      return items;
    };
    const items = await readFile(false);
    expect(items.length).toBeGreaterThan(4000);
    const last = items.at(-1);
    expect(last).toMatchObject({ reject: { reason: "unreadable", file: "rows.csv.gz", line: items.length * 2 } });
    expect(
      items
        .slice(0, -1)
        .every((item, i) => item.kind === "document" && item.document.text === `text\nof ${Math.sin(i)}`),
    ).toBe(true);
    expect(await readFile(true)).toEqual(items);
  });
});
