import { createHash } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { gzipSync } from "node:zlib";
import { describe, expect, onTestFinished, test } from "vitest";
import { readJsonl } from "../../producers/sources/jsonl.ts";
import type { RecordOptions } from "../../producers/sources/record.ts";
import { openFileSource } from "../../src/adapters/file/file-source.ts";
import type { SourceItem } from "../../src/core/documents.ts";
import { bytesOneByOne, brief, collect, pipeOf, READ_OPTIONS } from "../fixtures/sources.ts";
import { tempFolder } from "../fixtures/temp-folder.ts";

async function read(
  content: string | Buffer | Iterable<Buffer>,
  options: Partial<RecordOptions> = {},
): Promise<SourceItem[]> {
  const chunks = typeof content === "string" || Buffer.isBuffer(content) ? [Buffer.from(content)] : content;
  return collect(readJsonl(pipeOf(chunks, "corpus.jsonl"), { ...READ_OPTIONS, ...options }));
}

/** What is still referenced: resident memory would count what the collector has not yet returned. */
function heldBytes(): number {
  setFlagsFromString("--expose-gc");
  (runInNewContext("gc") as () => void)();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

describe("what a line may be", () => {
  test("a line that is no JSON is told without the trace of a stack, which takes longer than the line", async () => {
    const { parse } = JSON;
    const { stackTraceLimit } = Error;
    const limits: number[] = [];
    JSON.parse = (text: string): unknown => {
      limits.push(Error.stackTraceLimit);
      return parse(text);
    };
    onTestFinished(() => void (JSON.parse = parse));
    const items = await read('{"id":"a","text":"x"}\n{"id":"b",\nnonsense\n');
    expect(items.map(({ kind }) => kind)).toEqual(["document", "reject", "reject"]);
    expect(limits).toEqual([0, 0, 0]);
    expect(Error.stackTraceLimit).toBe(stackTraceLimit);
  });

  test("a document knows the file and line that it came from", async () => {
    const [, second] = await read('{"id":"a","text":"x"}\n{"id":"b","text":"y"}\n');
    expect(second).toEqual({
      kind: "document",
      document: { id: "b", text: "y", origin: { file: "corpus.jsonl", line: 2 } },
    });
  });

  test.each([
    ["a last line without newline", '{"id":"a","text":"x"}', ["a=x"]],
    ["CRLF", '{"id":"a","text":"x"}\r\n{"id":"b","text":"y"}\r\n', ["a=x", "b=y"]],
    ["a byte order mark", '\uFEFF{"id":"a","text":"x"}\n', ["a=x"]],
    ["blank lines, which still count", '\n  \t\r\n{"id":"a","text":"x"}\n\n{"id":1}\n', ["a=x", "5:no_text"]],
    ["a number as id", '{"id":12,"text":"x"}\n', ["12=x"]],
    ["an empty file", "", []],
    ["unknown fields", '{"lang":"en","id":"a","text":"x","n":[1]}\n', ["a=x"]],
    ["text in any script", '{"id":"é","text":"日本 😀"}\n', ["é=日本 😀"]],
  ])("%s", async (_, content, expected) => {
    expect((await read(content)).map(brief)).toEqual(expected);
  });

  test("fields may be dotted paths, and a name that has the dots itself is found first", async () => {
    const content =
      '{"meta":{"id":"a"},"body":{"en":{"text":"x"}}}\n{"meta.id":"b","meta":{"id":"c"},"body":{"en":{"text":"y"}}}\n{"meta":"d"}\n';
    const items = await read(content, { idField: "meta.id", textFields: ["body.en.text"] });
    expect(items.map(brief)).toEqual(["a=x", "b=y", "3:no_id"]);
  });

  test("a path finds only the record's own fields", async () => {
    expect((await read('{"text":"x"}\n', { idField: "constructor.name" })).map(brief)).toEqual(["1:no_id"]);
  });
});

describe("what is refused, at its line, while the lines around it stand", () => {
  test.each<[string, string | Buffer, string, string | null]>([
    ["not JSON", "{oops", "not_json", null],
    ["JSON, but an array", '["a","x"]', "not_json", null],
    ["JSON, but null", "null", "not_json", null],
    ["JSON, but a string", '"text"', "not_json", null],
    ["bytes that are not UTF-8", Buffer.from([0x7b, 0x22, 0xff, 0xfe, 0x22, 0x7d]), "invalid_utf8", null],
    ["no id", '{"text":"x"}', "no_id", null],
    ["an empty id", '{"id":"","text":"x"}', "no_id", null],
    ["an id that is null", '{"id":null,"text":"x"}', "no_id", null],
    ["an id that is an object", '{"id":{},"text":"x"}', "no_id", null],
    ["an id beyond any number", '{"id":1e999,"text":"x"}', "no_id", null],
    ["no text", '{"id":"b"}', "no_text", "b"],
    ["text that is a number", '{"id":"b","text":7}', "no_text", "b"],
    ["empty text", '{"id":"b","text":""}', "empty_text", "b"],
    ["text of white space", '{"id":"b","text":" \\n\\t\\u3000"}', "empty_text", "b"],
    ["a NUL in the text", '{"id":"b","text":"x\\u0000y"}', "nul_character", "b"],
    ["a NUL in the id", '{"id":"b\\u0000","text":"x"}', "nul_character", "b\0"],
    ["half a surrogate pair in the text", '{"id":"b","text":"x\\ud83d"}', "lone_surrogate", "b"],
    ["half a surrogate pair in the id", '{"id":"b\\ude00","text":"x"}', "lone_surrogate", "b\uFFFD"],
    ["an id that is too long", `{"id":"${"b".repeat(1025)}","text":"x"}`, "id_too_long", "b".repeat(64)],
    ["a line that is too long", `{"id":"b","text":"${"x".repeat(1024)}"}`, "too_long", null],
  ])("%s", async (_, bad, reason, id) => {
    const content = Buffer.concat([
      Buffer.from('{"id":"a","text":"x"}\n'),
      Buffer.from(bad),
      Buffer.from('\n{"id":"z","text":"y"}\n'),
    ]);
    const items = await read(content, {
      maxDocumentBytes: reason === "id_too_long" ? 4096 : 1024,
      clean: "none",
    });
    expect(items.map(brief)).toEqual(["a=x", `2:${reason}`, "z=y"]);
    expect(items[1]).toMatchObject({
      reject: { id, file: "corpus.jsonl", line: 2, detail: expect.stringMatching(/./) },
    });
  });

  test("the limit counts bytes: a line of exactly that many is read", async () => {
    const line = `{"id":"a","text":"${"é".repeat(20)}"}`;
    const bytes = Buffer.byteLength(line);
    expect(await read(`${line}\n`, { maxDocumentBytes: bytes })).toMatchObject([{ kind: "document" }]);
    expect(await read(`${line}\n`, { maxDocumentBytes: bytes - 1 })).toMatchObject([
      { kind: "reject", reject: { reason: "too_long", detail: expect.stringContaining(String(bytes)) } },
    ]);
  });
});

describe("streams", () => {
  const content = Buffer.from('{"id":"a","text":"é"}\r\n\n{"id":"b","text":"😀"}\n{"id":"c"}');
  const expected = ["a=é", "b=😀", "4:no_text"];

  test("chunks may end anywhere", async () => {
    expect((await read(bytesOneByOne(content))).map(brief)).toEqual(expected);
  });

  test("gzip is known by its first bytes, in chunks of any size and several members", async () => {
    const members = Buffer.concat([gzipSync(content.subarray(0, 30)), gzipSync(content.subarray(30))]);
    expect((await read(members)).map(brief)).toEqual(expected);
    expect((await read(bytesOneByOne(members))).map(brief)).toEqual(expected);
  });

  test("a line of 200 MB passes by without being held", async () => {
    const piece = Buffer.alloc(1024 * 1024, "x");
    let peak = 0;
    function* lines(): Generator<Buffer> {
      yield Buffer.from('{"id":"a","text":"x"}\n');
      for (let i = 0; i < 200; i++) {
        if (i % 20 === 0) peak = Math.max(peak, heldBytes());
        yield Buffer.from(piece);
      }
      yield Buffer.from('\n{"id":"z","text":"y"}\n');
    }
    const before = heldBytes();
    expect((await read(lines())).map(brief)).toEqual(["a=x", "2:too_long", "z=y"]);
    // The stream itself reads some pieces ahead.
    expect(peak - before).toBeLessThan(64 * 1024 * 1024);
  });
});

describe("files that fail midway", () => {
  /** More than one chunk of output, so that some of it may wait unread when the end is found. */
  function manyLines(): string {
    const line = (_: unknown, i: number): string =>
      JSON.stringify({ id: i, text: createHash("sha512").update(String(i)).digest("hex").slice(0, 80) });
    return Array.from({ length: 11_000 }, line)
      .join("\n")
      .slice(0, 1024 * 1024 + 9000);
  }

  async function readFileSlowly(path: string, pauses: boolean): Promise<SourceItem[]> {
    const items: SourceItem[] = [];
    const source = await openFileSource({ path, name: "corpus.jsonl.gz" });
    onTestFinished(() => source.close());
    for await (const item of readJsonl(source, READ_OPTIONS)) {
      items.push(item);
      if (pauses && items.length % 500 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    return items;
  }

  test.each<[string, (gzip: Buffer) => Buffer]>([
    ["ends early", (gzip) => gzip.subarray(0, gzip.length - 8)],
    ["ends in the middle", (gzip) => gzip.subarray(0, gzip.length >> 1)],
    ["is damaged", (gzip) => Buffer.from(gzip).fill(0xff, gzip.length >> 1, (gzip.length >> 1) + 2000)],
  ])("gzip that %s: every line before it is read, whatever the reader's pace", async (_, damage) => {
    const path = join(await tempFolder(), "corpus.jsonl.gz");
    await writeFile(path, damage(gzipSync(manyLines())));
    const items = await readFileSlowly(path, false);
    expect(items.at(-1)).toMatchObject({
      reject: { reason: "unreadable", id: null, file: "corpus.jsonl.gz", line: items.length },
    });
    expect(items.length).toBeGreaterThan(4000);
    expect(items.slice(0, -1).every((item, i) => item.kind === "document" && item.document.id === String(i))).toBe(
      true,
    );
    expect(await readFileSlowly(path, true)).toEqual(items);
  });
});
