/** What a bucket of a real server gives: marks of consoles, tables, and names that are no data. */
import { PutObjectCommand, S3Client } from "@aws-sdk/client-s3";
import { randomUUID } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { join, relative } from "node:path";
import { expect, test } from "vitest";
import { Corpus, type CorpusParams } from "../../producers/corpus.ts";
import { sayCounts } from "../../producers/sources/passed-over.ts";
import { describeS3 } from "../fixtures/describe-s3.ts";
import { SELECTION } from "../fixtures/run-options.ts";
import { collect } from "../fixtures/sources.ts";

const TABLE = new URL("../fixtures/tables/delta", import.meta.url).pathname;

describeS3("a corpus on S3", ({ bucket, endpoint, region, credentials }) => {
  const prefix = `sources/${randomUUID()}`;
  const s3 = { endpoint, region, credentials };
  const url = (path: string): string => `s3://${bucket}/${prefix}/${path}`;
  const line = (id: string): string => `${JSON.stringify({ id, text: `text ${id}` })}\n`;

  async function put(files: Readonly<Record<string, string | Buffer>>): Promise<void> {
    const client = new S3Client({ ...s3, forcePathStyle: true });
    for (const [key, body] of Object.entries(files))
      await client.send(new PutObjectCommand({ Bucket: bucket, Key: `${prefix}/${key}`, Body: body }));
    client.destroy();
  }

  async function read(
    input: string,
    options: Partial<CorpusParams> = {},
  ): Promise<{ ids: (string | null)[]; said: string }> {
    const corpus = new Corpus({ inputs: [input], ...SELECTION, maxDocumentBytes: 1024 * 1024, s3, ...options });
    try {
      const items = await collect(corpus.items());
      const ids = items.map((item) => (item.kind === "document" ? item.document.id : item.reject.reason));
      return { ids, said: sayCounts(corpus.sources) };
    } finally {
      await corpus.close();
    }
  }

  test("an empty object with the name of a prefix hides nothing below it", async () => {
    await put({ marked: "", "marked/a.jsonl": line("a"), "empty.jsonl": "", "full.jsonl": line("f") });
    expect(await read(url("marked"))).toEqual({ ids: ["a"], said: "1 read" });
    expect(await read(url("empty.jsonl"))).toEqual({ ids: [], said: "1 read" });
    expect((await read(url("full.jsonl"))).ids).toEqual(["f"]);
  });

  test("what other programs write beside their data is passed over, and counted by kind", async () => {
    await put({
      "job/_temporary/0/part-1.jsonl": line("a"),
      "job/_SUCCESS": "",
      "job/lang=en/part-1.json": line("a"),
      "job/lang=en_$folder$": "",
      "job/.hidden/b.jsonl": line("b"),
      "job/c.pdf": "",
    });
    const said = "1 read; passed over: 1 *_$folder$, 1 .pdf, 1 _SUCCESS, 1 _temporary/, 1 hidden file";
    expect(await read(url("job"))).toEqual({ ids: ["a"], said });
    expect((await read(url("job/**/part-*"))).ids).toEqual(["a"]);
    expect((await read(url("job"), { where: [{ field: "lang", operator: "=", value: "de" }] })).ids).toEqual([]);
  });

  test("a Delta table is read at its current version, and refused below a prefix that is none", async () => {
    const files = await readdir(TABLE, { recursive: true, withFileTypes: true });
    for (const file of files) {
      if (!file.isFile()) continue;
      const path = join(file.parentPath, file.name);
      await put({ [`tables/delta/${relative(TABLE, path)}`]: await readFile(path) });
    }
    const { ids, said } = await read(url("tables/delta"));
    expect(ids).toEqual(["d", "a", "e"]);
    expect(said).toMatch(/^3 read; passed over: \d _delta_log\/, 2 files that its table does not hold$/);
    expect((await read(url("tables/delta/*/*.parquet"))).ids).toEqual(["d", "a", "e"]);
    for (const path of ["tables", "tables/delta/lang=en"])
      await expect(read(url(path))).rejects.toMatchObject({
        code: "source_unreadable",
        cure: expect.stringContaining("name the table itself"),
      });
    await put({ "ice/metadata/v1.metadata.json": "{}", "ice/data/a.jsonl": line("a") });
    await expect(read(url("ice"))).rejects.toThrow("is a table in the format Iceberg");
  });
});
