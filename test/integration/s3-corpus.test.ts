/** A corpus in a bucket of a real server. */
import { PutObjectCommand, S3Client } from "@aws-sdk/client-s3";
import { randomUUID } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, expect, test } from "vitest";
import { ProducerThreads } from "../../producers/parts/producer-threads.ts";
import { readParts } from "../../producers/parts/read-parts.ts";
import { S3Bucket } from "../../src/adapters/s3/s3-source.ts";
import { Corpus } from "../../producers/corpus.ts";
import { FILES, readItems } from "../conformance/record-source.suite.ts";
import { describeS3 } from "../fixtures/describe-s3.ts";
import { openMini } from "../fixtures/mini.ts";
import { runOptions, SELECTION } from "../fixtures/run-options.ts";
import { collect } from "../fixtures/sources.ts";

describeS3("a corpus on S3", ({ bucket, endpoint, region, credentials }) => {
  const prefix = `corpus/${randomUUID()}`;
  const s3 = { endpoint, region, credentials };
  const url = (path: string): string => `s3://${bucket}/${prefix}/${path}`;

  async function put(key: string, body: Buffer | string): Promise<void> {
    const client = new S3Client({ ...s3, forcePathStyle: true });
    await client.send(new PutObjectCommand({ Bucket: bucket, Key: `${prefix}/${key}`, Body: body }));
    client.destroy();
  }

  beforeAll(async () => {
    for (const name of ["zstd-v2.parquet", "pandas.tsv", "rows.jsonl.zst"])
      await put(`rows/${name}`, await readFile(join(FILES, name)));
    for (let i = 0; i < 7; i++) await put(`many/${i}.txt`, `text ${i}`);
    await put("many/_SUCCESS", "");
    await put("many/.hidden.txt", "hidden");
    await put("many/sub/é.txt", "accent");
    await put("many/sub/part-00000", '{"id":"p","text":"x"}');
    await put("many-others.txt", "not below the prefix");
  });

  async function idsAt(path: string, options: Parameters<typeof readItems>[1] = {}): Promise<(string | null)[]> {
    const items = await readItems([url(path)], { s3, ...options });
    return items.map((item) => (item.kind === "document" ? item.document.id : item.reject.reason));
  }

  test.each(["zstd-v2.parquet", "pandas.tsv", "rows.jsonl.zst"])("%s is read as from a file", async (name) => {
    const remote = await readItems([url(`rows/${name}`)], { s3 });
    const local = await readItems([join(FILES, name)]);
    const bare = (items: typeof local): unknown[] =>
      items.map(
        (item) => item.kind === "document" && [item.document.id, item.document.text, item.document.origin.line],
      );
    expect(remote).toHaveLength(90);
    expect(bare(remote)).toEqual(bare(local));
    expect(remote[0]).toMatchObject({ document: { origin: { file: url(`rows/${name}`) } } });
  });

  test("a prefix is a folder, listed page by page in order of keys", async () => {
    const expected = ["0.txt", "1.txt", "2.txt", "3.txt", "4.txt", "5.txt", "6.txt", "sub/é.txt"];
    expect(await idsAt("many", { s3: { ...s3, pageSize: 3 } })).toEqual(expected);
    expect(await idsAt("many/")).toEqual(expected);
    expect(await idsAt("many", { format: "jsonl" })).toEqual(["p"]);
  });

  test("more keys than one answer of the server lists are all found, each once and in order", async () => {
    const names = Array.from({ length: 1111 }, (_, i) => `crowd/${String(i).padStart(4, "0")}.txt`);
    const client = new S3Client({ ...s3, forcePathStyle: true });
    const rest = [...names];
    const upload = async (): Promise<void> => {
      for (let name = rest.pop(); name !== undefined; name = rest.pop())
        await client.send(new PutObjectCommand({ Bucket: bucket, Key: `${prefix}/${name}`, Body: name }));
    };
    await Promise.all(Array.from({ length: 16 }, upload));
    client.destroy();
    const listed = new S3Bucket({ bucket, options: s3 });
    const found: string[] = [];
    for await (const { key } of listed.list(`${prefix}/crowd/`)) found.push(key.slice(prefix.length + 1));
    await listed.close();
    expect(found).toEqual(names);
    // Across the end of the first thousand.
    expect(await idsAt("crowd/{0999,100?,1110}.txt")).toEqual(
      [999, ...Array.from({ length: 10 }, (_, i) => 1000 + i), 1110].map((i) => `${String(i).padStart(4, "0")}.txt`),
    );
  });

  test("small objects are asked for together and come in order, large ones and rejects among them", async () => {
    const names: string[] = [];
    for (let i = 100; i < 130; i++) {
      const isLarge = i % 10 === 5;
      await put(`mixed/${i}.txt`, i % 10 === 7 ? "" : String(i).repeat(isLarge ? 400_000 : 10));
      names.push(i % 10 === 7 ? "empty_text" : `${i}.txt`);
    }
    expect(await idsAt("mixed", { maxDocumentBytes: 2_000_000 })).toEqual(names);
  });

  test("a pattern", async () => {
    expect(await idsAt("many/[1-3].txt")).toEqual(["1.txt", "2.txt", "3.txt"]);
    expect(await idsAt("**/s*/*.txt")).toEqual(["many/sub/é.txt"]);
  });

  test("nothing there is said before anything is started", async () => {
    await expect(idsAt("nowhere")).rejects.toMatchObject({ code: "source_unreadable", cure: expect.any(String) });
    await expect(idsAt("nowhere/*.csv")).rejects.toMatchObject({ code: "source_unreadable" });
    await expect(readItems(["s3://x"], { s3 })).rejects.toMatchObject({ code: "bad_usage" });
  });

  test("threads read ranges of one object at the same time, and every line once", async () => {
    await put("large/rows.jsonl", await readFile(join(FILES, "rows.jsonl")));
    const model = await openMini();
    const reading = { ...SELECTION, maxDocumentBytes: 1 << 20 };
    const setup = { model, cutting: runOptions({ model: model.ref }), reading, s3 };
    const threads = await ProducerThreads.open({ threads: 2, setup });
    const corpus = new Corpus({ inputs: [url("large")], ...reading, s3 });
    const items = await collect(readParts(corpus.sections({ partBytes: 2048 }), threads));
    await Promise.all([threads.close(), corpus.close()]);
    const withoutContent = items.map(
      (item) => item.kind === "document" && { kind: item.kind, document: item.document },
    );
    expect(withoutContent).toEqual(await readItems([url("large")], { s3 }));
  });

  test("an object that is replaced after it was listed ends the reading", async () => {
    await put("pinned/a.txt", "before");
    // Larger than what is asked for before its turn.
    await put("pinned/b.jsonl", '{"id":"b","text":"before"}\n'.repeat(50_000));
    const corpus = new Corpus({ inputs: [url("pinned")], ...SELECTION, maxDocumentBytes: 1000, s3 });
    const items = corpus.items();
    expect((await items.next()).value).toMatchObject({ document: { text: "before" } });
    await put("pinned/b.jsonl", '{"id":"b","text":"after!"}\n');
    await expect(items.next()).rejects.toMatchObject({ code: "source_changed" });
    await corpus.close();
  });
});
