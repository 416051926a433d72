/** Gzip that is more, or less, than one whole member; and files that stand for others. */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { readJsonl } from "../../../producers/sources/jsonl.ts";
import type { SourceItem } from "../../../src/core/documents.ts";
import { readItems } from "../../conformance/record-source.suite.ts";
import { brief, bytesOneByOne, collect, pipeOf, READ_OPTIONS } from "../../fixtures/sources.ts";
import { tempFolder } from "../../fixtures/temp-folder.ts";

const lines = Array.from({ length: 3000 }, (_, i) => `{"id":"${i}","text":"text ${Math.sin(i)}"}\n`);
const gzip = gzipSync(lines.join(""));

async function read(content: Buffer): Promise<SourceItem[]> {
  return collect(readJsonl(pipeOf([content], "f"), READ_OPTIONS));
}

describe("gzip", () => {
  test.each<[string, Buffer, RegExp | null]>([
    ["alone", gzip, null],
    ["and zeros, as tapes have", Buffer.concat([gzip, Buffer.alloc(1000)]), null],
    ["and text", Buffer.concat([gzip, Buffer.from("<html>not found</html>")]), /no gzip follow its end/],
    ["and one byte", Buffer.concat([gzip, Buffer.from("x")]), /no gzip follow its end/],
    ["twice, and text", Buffer.concat([gzip, gzip, Buffer.from("x".repeat(100_000))]), /no gzip follow its 2 members/],
    ["with a wrong checksum", Buffer.from(gzip).fill(0, gzip.length - 8, gzip.length - 4), /incorrect data check/],
    ["with a wrong length", Buffer.from(gzip).fill(9, gzip.length - 4), /incorrect length check/],
    ["without its end", gzip.subarray(0, gzip.length - 4), /unexpected end of file/],
  ])("%s: every line is read, and the rest is named", async (_, content, problem) => {
    const items = await read(content);
    const found = items.filter((item) => item.kind === "document");
    expect(found.slice(0, 3000).map(({ document }) => document.text)).toEqual(
      lines.map((line) => (JSON.parse(line) as { text: string }).text),
    );
    if (problem === null) expect(items).toHaveLength(3000);
    else
      expect(items.at(-1)).toMatchObject({ reject: { reason: "unreadable", detail: expect.stringMatching(problem) } });
  });

  test("of many members, in chunks of any size, with names and comments", async () => {
    const named = Buffer.concat([
      Buffer.from([0x1f, 0x8b, 8, 4 | 8 | 16, 0, 0, 0, 0, 0, 255, 2, 0, 7, 7]),
      Buffer.from("name\0comment\0"),
      gzipSync('{"id":"n","text":"y"}\n').subarray(10),
    ]);
    const content = Buffer.concat([named, ...lines.slice(0, 200).map((line) => gzipSync(line)), named]);
    const whole = (await read(content)).map((item) => brief(item));
    expect(whole).toHaveLength(202);
    expect(whole[0]).toBe("n=y");
    expect(
      (await collect(readJsonl(pipeOf(bytesOneByOne(content), "f"), READ_OPTIONS))).map((item) => brief(item)),
    ).toEqual(whole);
  });

  test("a reader may stop in the middle", async () => {
    const items = readJsonl(pipeOf([gzip], "f"), READ_OPTIONS);
    expect((await items.next()).done).toBe(false);
    await items.return(undefined);
  });
});

test("the pointer of Git LFS is named in place of a file of any format", async () => {
  const folder = await tempFolder();
  const pointer = `version https://git-lfs.github.com/spec/v1\noid sha256:${"a".repeat(64)}\nsize 12345\n`;
  const names = ["a.jsonl", "b.parquet", "c.csv", "d.txt", "e.jsonl.gz", "f.arrow", "g.json"];
  for (const name of names) await writeFile(join(folder, name), pointer);
  await mkdir(join(folder, "sub"));
  const items = await readItems([folder]);
  expect(items).toHaveLength(names.length);
  for (const item of items)
    expect(item).toMatchObject({ reject: { reason: "unreadable", detail: expect.stringContaining("git lfs pull") } });
});
