/** What a folder gives, and that the summary accounts for each of its files. */
import { mkdir, rm, symlink, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { gzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { Corpus, type CorpusParams } from "../../producers/corpus.ts";
import { namedBy } from "../../producers/sources/named.ts";
import { sayCounts } from "../../producers/sources/passed-over.ts";
import { placeOpener, readPart } from "../../producers/parts/parts.ts";
import type { SourceItem } from "../../src/core/documents.ts";
import { partRecordSchema } from "../../src/core/ingest.ts";
import { SELECTION } from "../fixtures/run-options.ts";
import { collect } from "../fixtures/sources.ts";
import { tempFolder } from "../fixtures/temp-folder.ts";

async function folderOf(files: Readonly<Record<string, string | Buffer>>): Promise<string> {
  const root = await tempFolder();
  for (const [path, content] of Object.entries(files)) {
    await mkdir(dirname(join(root, path)), { recursive: true });
    await writeFile(join(root, path), content);
  }
  return root;
}

async function read(
  inputs: readonly string[],
  options: Partial<CorpusParams> = {},
): Promise<{ ids: string[]; said: string; corpus: Corpus }> {
  const corpus = new Corpus({ inputs, ...SELECTION, maxDocumentBytes: 1024 * 1024, ...options });
  const items = await collect(corpus.items());
  const ids = items.map((item) =>
    item.kind === "document" ? item.document.id : `${item.reject.reason}: ${item.reject.detail}`,
  );
  return { ids, said: sayCounts(corpus.sources), corpus };
}

const line = (id: string): string => `${JSON.stringify({ id, text: `text ${id}` })}\n`;

test(".json and .json.gz are read", async () => {
  const root = await folderOf({ "c4-train.00000.json.gz": gzipSync(line("a") + line("b")), "dolma.json": line("c") });
  expect(await read([root])).toMatchObject({ ids: ["a", "b", "c"], said: "2 read" });
});

test("what other programs write beside their data is passed over, and counted by kind", async () => {
  const root = await folderOf({
    "_temporary/0/part-00000.jsonl": line("uncommitted"),
    "out/_temporary/0/task/part-00001.jsonl": line("a"),
    "out/part-00000.jsonl": line("a"),
    "out/_SUCCESS": "",
    "out/_metadata": "",
    "out/_common_metadata": "",
    "out/_committed_123": "",
    "out/_started_123": "",
    "out/part-00000.jsonl.crc": "",
    "out/.part-00000.jsonl.crc": "",
    day_$folder$: "",
    ".git/x.jsonl": line("x"),
    "scan.pdf": "",
    "b.PDF": "",
    LICENSE: "",
  });
  const expected =
    "1 read; passed over: 2 .pdf, 2 _temporary/, 1 *_$folder$, 1 .crc, 1 _SUCCESS, 1 _committed_*, 1 _common_metadata, 1 _metadata, 1 _started_*, 1 file without an extension, 1 hidden file, 1 hidden folder";
  expect(await read([root])).toMatchObject({ ids: ["a"], said: expected });
  expect((await read([`${root}/**/*`])).ids).toEqual(["a"]);
  expect((await read([`${root}/**/part-*.jsonl`])).ids).toEqual(["a"]);
  expect((await read([join(root, "out")], { format: "jsonl" })).ids).toEqual(["a"]);
  // Another process takes no part from such a file either.
  for (const input of [root, `${root}/**/*`]) {
    const isNamed = namedBy([input], "auto");
    expect(isNamed({ kind: "file", path: join(root, "out/part-00000.jsonl") })).toBe(true);
    expect(isNamed({ kind: "file", path: join(root, "out/_temporary/0/task/part-00001.jsonl") })).toBe(false);
  }
});

test("an input without anything to read says what was passed over", async () => {
  const root = await folderOf({ "a.pdf": "", "b.pdf": "", _SUCCESS: "" });
  const corpus = new Corpus({ inputs: [root], ...SELECTION, maxDocumentBytes: 1024 });
  await expect(corpus.check()).rejects.toThrow("0 read; passed over: 2 .pdf, 1 _SUCCESS");
});

describe("symbolic links", () => {
  test("a cache of the Hugging Face hub, which is all links, is read", async () => {
    const root = await folderOf({
      "datasets--o--n/blobs/0a1b": line("a"),
      "datasets--o--n/blobs/2c3d": gzipSync(line("b")),
      "datasets--o--n/snapshots/rev/README.md": "read me",
    });
    const snapshot = join(root, "datasets--o--n/snapshots/rev");
    await symlink("../../blobs/0a1b", join(snapshot, "train.jsonl"));
    await symlink("../../blobs/2c3d", join(snapshot, "test.json.gz"));
    expect(await read([snapshot])).toMatchObject({ ids: ["README.md", "b", "a"], said: "3 read" });
    expect(await read([root])).toMatchObject({
      ids: ["datasets--o--n/snapshots/rev/README.md", "b", "a"],
      said: "3 read; passed over: 2 files without an extension",
    });
    expect(await read([root], { noFollow: true })).toMatchObject({
      said: "1 read; passed over: 2 files without an extension, 2 symbolic links",
    });
  });

  test("files and folders elsewhere are read, under the link's path; a pattern finds them, too", async () => {
    const elsewhere = await folderOf({ "data/a.txt": "a", "data/sub/b.txt": "b", "c.txt": "c" });
    const root = await folderOf({ "own.txt": "own" });
    await symlink(join(elsewhere, "data"), join(root, "linked"));
    await symlink(join(elsewhere, "c.txt"), join(root, "z.txt"));
    const ids = ["linked/a.txt", "linked/sub/b.txt", "own.txt", "z.txt"];
    expect(await read([root])).toMatchObject({ ids, said: "4 read" });
    expect((await read([`${root}/**/*.txt`])).ids).toEqual(ids);
    expect((await read([root], { noFollow: true })).ids).toEqual(["own.txt"]);
    const isNamed = namedBy([root], "auto");
    expect(isNamed({ kind: "file", path: join(root, "linked/sub/b.txt") })).toBe(true);
  });

  test("loops end, within the folder and outside of it; what is read anyway is not read twice", async () => {
    const elsewhere = await folderOf({ "x/a.txt": "a" });
    const root = await folderOf({ "own.txt": "own", "sub/b.txt": "b", "_temporary/c.txt": "c" });
    await symlink(elsewhere, join(elsewhere, "x/up"));
    await symlink(root, join(elsewhere, "x/home"));
    await symlink(elsewhere, join(root, "away"));
    await symlink(elsewhere, join(root, "away again"));
    await symlink(root, join(root, "sub/top"));
    await symlink("own.txt", join(root, "same.txt"));
    await symlink("sub", join(root, "same"));
    await symlink("myself.txt", join(root, "myself.txt"));
    await symlink("gone.txt", join(root, "nowhere.txt"));
    expect(await read([root])).toMatchObject({
      ids: ["away/x/a.txt", "own.txt", "sub/b.txt"],
      said: "3 read; passed over: 4 symbolic links to what is read anyway, 2 symbolic links that lead back to a folder above it, 1 _temporary/, 1 symbolic link that leads back to itself, 1 symbolic link that leads nowhere",
    });
  });

  test("links do not lead out of the places that a schedule or helper may read", async () => {
    const secret = await folderOf({ "secret.txt": "secret" });
    const root = await folderOf({ "docs/a.txt": "a", "shared/b.txt": "b" });
    const docs = join(root, "docs");
    await symlink(join(secret, "secret.txt"), join(docs, "file.txt"));
    await symlink(secret, join(docs, "folder"));
    await symlink(join(root, "shared"), join(docs, "shared"));
    const { ids } = await read([docs], { linksBelow: [root] });
    expect(ids).toEqual([
      "a.txt",
      expect.stringMatching(/^unreadable: it is not below/),
      expect.stringMatching(/^unreadable: it is not below/),
      "shared/b.txt",
    ]);
    const open = placeOpener(() => Promise.reject(new Error("no bucket")), [root]);
    const part = (path: string) => ({ name: path, place: { kind: "file" as const, path }, pin: null });
    await expect(open(part(join(docs, "file.txt")))).rejects.toMatchObject({ code: "source_refused" });
    await expect(open(part(join(docs, "folder/secret.txt")))).rejects.toMatchObject({ code: "source_refused" });
    await (await open(part(join(docs, "shared/b.txt")))).close();
  });
});

test("the names of folders are fields: for conditions, to keep, and as the id", async () => {
  const root = await folderOf({
    "lang=en/year=2026/a.jsonl": line("a"),
    "lang=a%20b%2F%25/year=2025/b.csv": "id,text\nb,text b\n",
    "lang=__HIVE_DEFAULT_PARTITION__/c.jsonl": `{"id":"c","text":"x","year":1999}\n`,
    "lang=fr/d.txt": "d",
  });
  const kept = async (options: Partial<CorpusParams>): Promise<unknown[]> => {
    const { corpus } = await read([root], { keep: ["lang", "year"], ...options });
    const items = await collect(corpus.items());
    return items.map((item) => item.kind === "document" && [item.document.id, ...item.document.kept!]);
  };
  expect(await kept({})).toEqual([
    ["c", null, "1999"],
    ["b", "a b/%", "2025"],
    ["a", "en", "2026"],
    ["lang=fr/d.txt", "fr", null],
  ]);
  expect(await kept({ where: [{ field: "lang", operator: "=", value: "a b/%" }] })).toHaveLength(1);
  expect(await kept({ where: [{ field: "year", operator: ">=", value: "2025" }] })).toHaveLength(2);
  expect(await kept({ where: [{ field: "lang", operator: "=", value: "fr" }] })).toEqual([
    ["lang=fr/d.txt", "fr", null],
  ]);
  expect((await read([join(root, "lang=en")], { idField: "lang" })).ids).toEqual(["en"]);
});

test("parts that other threads and machines read have the same fields", async () => {
  const table = new URL("../fixtures/tables/delta", import.meta.url).pathname;
  const lines = Array.from({ length: 40 }, (_, i) => line(`r${i}`)).join("");
  const root = await folderOf({ "lang=nl/large.jsonl": lines, "lang=en/a.txt": "a" });
  const options = { ...SELECTION, keep: ["lang"], maxDocumentBytes: 4096 };
  const corpus = new Corpus({ inputs: [root, table], ...options });
  const open = placeOpener(() => Promise.reject(new Error("no bucket")));
  const items: SourceItem[] = [];
  for await (const section of corpus.sections({ partBytes: 500, partObjects: 3, pinsAll: true })) {
    if (section.kind !== "part") throw new Error("a file was read at once");
    // As it comes from the store.
    const part = partRecordSchema.shape.what.parse(JSON.parse(JSON.stringify(section.part)));
    items.push(...(await collect(readPart({ part, options, open, reached: { line: 0 } }))));
  }
  const fields = (each: readonly SourceItem[]): unknown[] =>
    each.map((item) => item.kind === "document" && [item.document.id, item.document.kept]);
  expect(fields(items)).toEqual(fields(await collect(corpus.items())));
  expect(fields(items)).toContainEqual(["r39", ["nl"]]);
  expect(fields(items)).toContainEqual(["d", [null]]);
});

describe("a Delta table", () => {
  const TABLE = new URL("../fixtures/tables/delta", import.meta.url).pathname;
  const log = (...actions: object[]): string => actions.map((action) => JSON.stringify(action)).join("\n");
  const PROTOCOL = { protocol: { minReaderVersion: 1, minWriterVersion: 2 } };
  const METADATA = { metaData: { id: "x", partitionColumns: [], configuration: {} } };
  const version = (number: number): string => `_delta_log/${String(number).padStart(20, "0")}.json`;

  test("is read at its current version, from a checkpoint and what came after it", async () => {
    const { ids, said, corpus } = await read([TABLE], { keep: ["lang"] });
    expect(ids).toEqual(["d", "a", "e"]);
    expect(said).toBe("3 read; passed over: 2 files that its table does not hold, 1 _delta_log/");
    const kept = (await collect(corpus.items())).map((item) => item.kind === "document" && item.document.kept);
    expect(kept).toEqual([[null], ["en"], ["en"]]);
    expect((await read([join(TABLE, "..")])).ids).toEqual(["d", "a", "e"]);
    expect((await read([`${TABLE}/**/*.parquet`])).ids).toEqual(["d", "a", "e"]);
    const english = { where: [{ field: "lang", operator: "=" as const, value: "en" }] };
    expect((await read([TABLE], english)).ids).toEqual(["a", "e"]);
    await expect(read([join(TABLE, "lang=en")])).rejects.toMatchObject({
      message: expect.stringContaining("is a partition of a Delta table"),
      cure: expect.stringContaining("--where 'lang=en'"),
    });
  });

  test("a file that the log names and that is gone is a reject, and fields need not be in its path", async () => {
    const root = await folderOf({
      [version(0)]: log(PROTOCOL, METADATA, { add: { path: "x/a.jsonl", partitionValues: { lang: "en", day: "" } } }),
      [version(1)]: log({ add: { path: "gone.jsonl", partitionValues: {} } }),
      "x/a.jsonl": line("a"),
      "x/old.jsonl": line("old"),
    });
    const { ids, corpus } = await read([root], { keep: ["lang", "day"] });
    expect(ids).toEqual(["a", "unreadable: the table's log names this file, and it is not there"]);
    expect(await collect(corpus.items())).toMatchObject([{ document: { kept: ["en", null] } }, {}]);
  });

  const vector = { storageType: "u", pathOrInlineDv: "ab", offset: 1, sizeInBytes: 36, cardinality: 2 };
  test.each<[string, Record<string, string>, RegExp]>([
    [
      "deletion vectors",
      { [version(0)]: log(PROTOCOL, METADATA, { add: { path: "a.parquet", deletionVector: vector } }) },
      /deletion vectors mark deleted rows in 1 of its 1 files/,
    ],
    [
      "column mapping",
      { [version(0)]: log({ metaData: { configuration: { "delta.columnMapping.mode": "name" } } }) },
      /column mapping \(name\)/,
    ],
    [
      "a feature of readers",
      { [version(0)]: log({ protocol: { minReaderVersion: 3, readerFeatures: ["timestampNtz", "variantType"] } }) },
      /needs a reader with variantType$/,
    ],
    ["a later protocol", { [version(0)]: log({ protocol: { minReaderVersion: 4 } }) }, /version 4/],
    ["a shallow clone", { [version(0)]: log({ add: { path: "s3://b/a.parquet" } }) }, /shallow clone/],
    ["a gap in its log", { [version(0)]: log(PROTOCOL), [version(2)]: log(METADATA) }, /lacks version 1/],
    ["a log without its beginning", { [version(7)]: log(PROTOCOL) }, /lacks version 0/],
    ["a damaged log", { [version(0)]: "{" }, /damaged in 0{20}\.json/],
    ["an empty log", { "_delta_log/_last_checkpoint": "{}" }, /no version/],
  ])("with %s is refused by name", async (_, files, message) => {
    const root = await folderOf({ ...files, "a.jsonl": line("a") });
    await expect(read([root])).rejects.toMatchObject({
      code: "source_unreadable",
      message: expect.stringMatching(message),
    });
  });

  test("a file with a vector that a later version wrote anew is read", async () => {
    const root = await folderOf({
      [version(0)]: log(PROTOCOL, METADATA, { add: { path: "a.jsonl" } }),
      [version(1)]: log({ remove: { path: "a.jsonl" } }, { add: { path: "a.jsonl", deletionVector: vector } }),
      [version(2)]: log({ remove: { path: "a.jsonl", deletionVector: vector } }, { add: { path: "b.jsonl" } }),
      "a.jsonl": line("a"),
      "b.jsonl": line("b"),
    });
    expect((await read([root])).ids).toEqual(["b"]);
  });
});

test.each([
  ["Iceberg", "metadata/v1.metadata.json"],
  ["Hudi", ".hoodie/hoodie.properties"],
])("a table in the format %s is refused by name", async (format, path) => {
  const root = await folderOf({ [`t/${path}`]: "{}", "t/data/a.jsonl": line("a") });
  await expect(read([root])).rejects.toThrow(`is a table in the format ${format}`);
  await rm(join(root, "t", path));
  expect((await read([`${root}/t/data`])).ids).toEqual(["a"]);
});
