import { mkdir, rm, symlink, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { Readable } from "node:stream";
import { gzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { Corpus, type CorpusParams } from "../../producers/corpus.ts";
import type { Format } from "../../src/core/selection.ts";
import type { SourceItem } from "../../src/core/documents.ts";
import { SELECTION } from "../fixtures/run-options.ts";
import { tempFolder } from "../fixtures/temp-folder.ts";

function corpusOf(inputs: readonly string[], options: Partial<CorpusParams> = {}): Corpus {
  return new Corpus({ inputs, ...SELECTION, maxDocumentBytes: 1024, ...options });
}

async function folderOf(files: Readonly<Record<string, string | Buffer>>): Promise<string> {
  const root = await tempFolder();
  for (const [path, content] of Object.entries(files)) {
    await mkdir(dirname(join(root, path)), { recursive: true });
    await writeFile(join(root, path), content);
  }
  return root;
}

async function idsOf(items: AsyncIterable<SourceItem>): Promise<string[]> {
  const ids: string[] = [];
  for await (const item of items)
    ids.push(item.kind === "document" ? item.document.id : `${item.reject.reason} ${item.reject.id}`);
  return ids;
}

function read(inputs: readonly string[], options: Partial<CorpusParams> = {}): Promise<string[]> {
  return idsOf(corpusOf(inputs, options).items());
}

describe("a folder", () => {
  test("is walked in one order everywhere; text files are documents named by their path", async () => {
    const root = await folderOf({
      "b.txt": "b",
      "a.md": "a",
      "Z.markdown": "z",
      "sub/deep/c.TXT": "c",
      "data.jsonl": '{"id":"j1","text":"x"}\n{"id":"j2","text":"x"}\n',
      "more.ndjson.gz": gzipSync('{"id":"g1","text":"x"}\n'),
      "é.txt": "e",
      "picture.png": "no",
    });
    expect(await read([root])).toEqual(["Z.markdown", "a.md", "b.txt", "j1", "j2", "g1", "sub/deep/c.TXT", "é.txt"]);
  });

  test("hidden entries and symbolic links are passed over", async () => {
    const root = await folderOf({ "a.txt": "a", ".hidden.txt": "h", ".git/x.txt": "g" });
    await symlink(join(root, "a.txt"), join(root, "link.txt"));
    await symlink(root, join(root, "circle"));
    expect(await read([root])).toEqual(["a.txt"]);
  });

  test("--format takes only files of that format", async () => {
    const root = await folderOf({ "a.txt": "a", "b.jsonl": '{"id":"b","text":"x"}' });
    expect(await read([root], { format: "text" })).toEqual(["a.txt"]);
    expect(await read([root], { format: "jsonl" })).toEqual(["b"]);
  });

  test("a file that vanishes after it was listed is a reject, and the walk goes on", async () => {
    const root = await folderOf({ "a.txt": "a", "b.txt": "b", "c.jsonl": "{}", "d.txt": "d" });
    const items = corpusOf([root]).items();
    await items.next();
    await rm(join(root, "b.txt"));
    await rm(join(root, "c.jsonl"));
    expect(await idsOf(items)).toEqual(["unreadable b.txt", "unreadable null", "d.txt"]);
  });

  test("a folder that vanishes is a reject, and the next input is read", async () => {
    const root = await folderOf({ "sub/a.txt": "a", "top.txt": "t" });
    await rm(join(root, "sub"), { recursive: true });
    expect(await read([join(root, "sub"), root], { format: "text" })).toEqual([
      `unreadable ${join(root, "sub")}`,
      "top.txt",
    ]);
  });
});

describe("text files", () => {
  test.each<[string, string | Buffer, string]>([
    ["white space only", " \n ", "empty_text"],
    ["bytes that are not UTF-8", Buffer.from([0x61, 0xff]), "invalid_utf8"],
    ["a NUL", "a\0b", "nul_character"],
    ["more bytes than allowed", "x".repeat(1025), "too_long"],
  ])("%s", async (_, content, reason) => {
    const root = await folderOf({ "a.txt": content, "b.txt": "\uFEFFfine" });
    expect(await read([root], { clean: "none" })).toEqual([`${reason} a.txt`, "b.txt"]);
  });

  test("the text is the file's, without the byte order mark", async () => {
    const root = await folderOf({ "a.txt": "\uFEFFone\r\ntwo\n" });
    for await (const item of corpusOf([root]).items()) {
      expect(item).toEqual({
        kind: "document",
        document: { id: "a.txt", text: "one\r\ntwo\n", origin: { file: join(root, "a.txt") } },
      });
    }
  });
});

describe("inputs", () => {
  test("are read in the order given; a file named directly keeps its path as id", async () => {
    const root = await folderOf({ "b.txt": "b", "a.txt": "a", "x.data": '{"id":"x","text":"y"}' });
    const [a, b] = [join(root, "a.txt"), join(root, "b.txt")];
    expect(await read([b, a])).toEqual([b, a]);
    expect(await read([join(root, "x.data")], { format: "jsonl" })).toEqual(["x"]);
  });

  test("- is standard input, as JSONL", async () => {
    const stdin = Readable.from([Buffer.from('{"id":"s","text":"x"}\n')]);
    expect(await idsOf(corpusOf(["-"], { stdin }).items())).toEqual(["s"]);
  });

  test.each<[string, string[], Format, string, RegExp]>([
    ["none", [], "auto", "bad_usage", /no corpus/],
    ["one that is not there", ["/nowhere/at/all.jsonl"], "auto", "source_unreadable", /all\.jsonl/],
    ["a name that tells no format", [import.meta.filename], "auto", "bad_usage", /format/],
    ["standard input twice", ["-", "-"], "auto", "bad_usage", /twice/],
  ])("%s: refused at once", async (_, inputs, format, code, message) => {
    await expect(corpusOf(inputs, { format }).check()).rejects.toMatchObject({
      code,
      message: expect.stringMatching(message),
      cure: expect.any(String),
    });
  });

  test("a name that tells no format is taken when the format is said", async () => {
    await expect(corpusOf([import.meta.filename, "-"], { format: "jsonl" }).check()).resolves.toBeUndefined();
  });
});
