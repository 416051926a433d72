/** JSON as other programs write it: layouts, long numbers, NaN, characters that no text has, lists of texts, no ids. */
import { describe, expect, test } from "vitest";
import { parseExactJson } from "../../../producers/sources/exact-json.ts";
import { readJson } from "../../../producers/sources/json-stream.ts";
import { readJsonl } from "../../../producers/sources/jsonl.ts";
import type { RecordOptions } from "../../../producers/sources/record.ts";
import { parseCondition } from "../../../src/core/conditions.ts";
import type { SourceItem } from "../../../src/core/documents.ts";
import { brief, bytesOneByOne, collect, pipeOf, READ_OPTIONS } from "../../fixtures/sources.ts";

type Options = Partial<RecordOptions>;

async function read(reader: typeof readJson, content: string | Buffer, options: Options): Promise<SourceItem[]> {
  const all = { ...READ_OPTIONS, ...options };
  const whole = await collect(reader(pipeOf([Buffer.from(content)], "f"), all));
  expect(await collect(reader(pipeOf(bytesOneByOne(Buffer.from(content)), "f"), all))).toEqual(whole);
  return whole;
}

async function json(content: string | Buffer, options: Options = {}): Promise<string[]> {
  return (await read(readJson, content, options)).map((item) =>
    item.kind === "document" ? `${item.document.origin.line}:${brief(item)}` : brief(item),
  );
}

async function jsonl(content: string | Buffer, options: Options = {}): Promise<string[]> {
  return (await read(readJsonl, content, options)).map(brief);
}

async function kept(line: string, ...keep: string[]): Promise<readonly (string | null)[] | undefined> {
  const [item] = await read(readJsonl, line, { keep });
  return item?.kind === "document" ? item.document.kept : [brief(item!)];
}

describe("layouts of .json", () => {
  const objects = [
    { id: "a", text: 'one {["\\' },
    { id: "b", text: "two\nlines", meta: { tags: [[], {}, [1, null]] } },
    { id: "c", text: "é 😀" },
  ];
  const texts = ['a=one {["\\', "b=two\nlines", "c=é 😀"];
  const briefs = async (content: string): Promise<string[]> =>
    (await read(readJson, content, {})).map((item) => brief(item));

  test.each<[string, string]>([
    ["lines, as of C4 and Dolma", objects.map((each) => `${JSON.stringify(each)}\n`).join("")],
    ["an array in one line", JSON.stringify(objects)],
    ["an array over lines", JSON.stringify(objects, null, 2)],
    ["an array with tabs and \\r\\n", JSON.stringify(objects, null, "\t").replaceAll("\n", "\r\n")],
    ["an array of lines", `[\n${objects.map((each) => JSON.stringify(each)).join(",\n")}\n]\n`],
    ["objects over lines, as jq writes them", objects.map((each) => JSON.stringify(each, null, 2)).join("\n")],
    [
      "objects without indents",
      objects.map((each) => JSON.stringify(each, null, 1).replaceAll(/^ +/gm, "")).join("\n"),
    ],
    ["objects one after another", objects.map((each) => JSON.stringify(each)).join(" ")],
    ["a sequence with record separators", objects.map((each) => `\x1e${JSON.stringify(each)}\n`).join("")],
    ["arrays one after another", objects.map((each) => JSON.stringify([each])).join("\n")],
    ["a comma after the last", `${JSON.stringify(objects).slice(0, -1)},]`],
    ["a byte order mark", `\uFEFF${JSON.stringify(objects, null, 4)}`],
  ])("%s", async (_, content) => {
    expect(await briefs(content)).toEqual(texts);
  });

  test("nothing, and an empty array", async () => {
    expect(await json("")).toEqual([]);
    expect(await json(" \n")).toEqual([]);
    expect(await json("[]")).toEqual([]);
  });

  test("each document is at the line at which it begins", async () => {
    expect(await json('[\n  {\n    "id": "a",\n    "text": "x"\n  },\n  {"id": "b", "text": "y"}\n]')).toEqual([
      "2:a=x",
      "6:b=y",
    ]);
  });

  test.each<[string, string, string[]]>([
    ["no object", '[1, "x", null, [{}], {"id":"a","text":"x"}]', [...Array<string>(4).fill("1:not_json"), "1:a=x"]],
    [
      "a value that is none",
      '[{"id":"a","text":"x"},{"id":"b","text":oops},{"id":"c","text":"z"}]',
      ["1:a=x", "1:not_json", "1:c=z"],
    ],
    [
      "a string that is not closed",
      '[\n  {\n    "id": "a,\n    "text": "x"\n  },\n  {\n    "id": "b",\n    "text": "y"\n  }\n]',
      ["2:not_json", "6:b=y"],
    ],
    [
      "an object that is not closed",
      '{\n "id": "a", "text": {"x": 1\n}\n{\n "id": "b", "text": "y"\n}\n{\n "id": "c", "text": "z"\n}\n',
      ["1:not_json", "4:b=y", "7:c=z"],
    ],
    ["a file that ends within an array", '[\n{"id":"a","text":"x"},\n', ["2:a=x", "3:not_json"]],
    ["a file that ends within an object", '[\n{"id":"a","text":"x"},\n{"id":', ["2:a=x", "3:not_json"]],
    [
      "an element above the limit",
      `[{"id":"a","text":"${"x".repeat(2000)}"},{"id":"b","text":"y"}]`,
      ["1:too_long", "1:b=y"],
    ],
    ["bytes that are not UTF-8", '[{"id":"a","text":"\xff"},{"id":"b","text":"y"}]', ["1:invalid_utf8", "1:b=y"]],
  ])("%s is a reject at its line, and the elements around it are read", async (_, content, expected) => {
    expect(await json(Buffer.from(content, "latin1"))).toEqual(expected);
  });

  test("of lines, a damaged one is one reject", async () => {
    const lines = '{"id":"a","text":"x"}\n{"id":"b","text":\n{"id":"c","text":"z"}\n';
    expect(await json(lines)).toEqual(["1:a=x", "2:not_json", "3:c=z"]);
  });

  test("an element above the limit is not held", async () => {
    const piece = Buffer.alloc(1024 * 1024, "x");
    let peak = 0;
    function* chunks(): Generator<Buffer> {
      yield Buffer.from('[{"id":"a","text":"');
      for (let i = 0; i < 200; i++) {
        if (i % 20 === 19) peak = Math.max(peak, process.memoryUsage().arrayBuffers);
        yield piece;
      }
      yield Buffer.from('"},{"id":"b","text":"y"}]');
    }
    const before = process.memoryUsage().arrayBuffers;
    expect((await collect(readJson(pipeOf(chunks(), "f"), READ_OPTIONS))).map(brief)).toEqual(["1:too_long", "b=y"]);
    expect(peak - before).toBeLessThan(64 * 1024 * 1024);
  });
});

describe("numbers keep their digits", () => {
  test("integers beyond 2^53", async () => {
    const line = '{"id":"a","text":"x","tweet_id":1212092628029698049,"in":{"n":[9007199254740993,1]}}';
    expect(await kept(line, "tweet_id", "in", "in.n")).toEqual([
      "1212092628029698049",
      '{"n":[9007199254740993,1]}',
      "[9007199254740993,1]",
    ]);
  });

  test("decimals", async () => {
    const line = '{"id":"a","text":"x","a":19.90,"b":0.1234567890123456789,"c":1e2,"d":-0.50,"e":7,"f":{"g":1.10}}';
    expect(await kept(line, "a", "b", "c", "d", "e", "f")).toEqual([
      "19.90",
      "0.1234567890123456789",
      "1e2",
      "-0.50",
      "7",
      '{"g":1.10}',
    ]);
  });

  test("as ids", async () => {
    const lines = [1212092628029698049n, 1212092628029698050n, 12n].map((id) => `{"id":${id},"text":"x"}\n`).join("");
    expect(await jsonl(lines)).toEqual(["1212092628029698049=x", "1212092628029698050=x", "12=x"]);
    expect(await jsonl('{"id":0.12345678901234567891,"text":"x"}')).toEqual(["0.12345678901234567891=x"]);
  });

  test.each([
    ["n=1212092628029698049", ["b"]],
    ["n!=1212092628029698049", ["a", "c"]],
    ["n>1212092628029698049", ["c"]],
    ["n>=1212092628029698049.0", ["b", "c"]],
    ["n<1212092628029698049", ["a"]],
    ["n<1.212092628029698049e18", ["a"]],
  ])("compared: %s", async (condition, expected) => {
    const lines = ["a", "b", "c"].map((id, i) => `{"id":"${id}","text":"","n":121209262802969804${8 + i}}\n`);
    const content = lines.join("").replaceAll('""', '"x"').replace("1212092628029698010", "1212092628029698050");
    const fixed = content.replace("12120926280296980410", "1212092628029698050");
    expect((await jsonl(fixed, { where: [parseCondition(condition)] })).map((each) => each[0])).toEqual(expected);
  });

  test("decimals are compared by their values", async () => {
    const lines = '{"id":"a","text":"x","n":0.30000000000000000001}\n{"id":"b","text":"x","n":0.3}\n';
    expect(await jsonl(lines, { where: [parseCondition("n=0.30")] })).toEqual(["b=x"]);
    expect(await jsonl(lines, { where: [parseCondition("n>0.3")] })).toEqual(["a=x"]);
  });

  test("an exact value is otherwise as JSON.parse gives it", () => {
    for (const text of [
      '{"a":[1,2.5,{"b":null}],"__proto__":{"c":true},"":"\\u00e9\\"\\\\","x":[],"y":{}}',
      "[]",
      '"x"',
      " 12 ",
      `${"[".repeat(50_000)}${"]".repeat(50_000)}`,
    ]) {
      const exact = parseExactJson(text);
      if (text.length < 1000) expect(exact).toEqual(JSON.parse(text));
      else expect(Array.isArray(exact)).toBe(true);
    }
    for (const text of ["", "[1,]", '{"a":1,}', "{a:1}", "[1 2]", "01", "1.", '"\n"', "nul", '{"a"}', "[1]]", "{,}"])
      expect(() => parseExactJson(text), text).toThrow(SyntaxError);
  });
});

describe("what Python writes that is no JSON", () => {
  test.each(["NaN", "Infinity", "-Infinity"])("%s is null, and the document counts", async (value) => {
    const line = `{"id":"a","text":"x NaN","score":${value},"in":[${value},1.5]}`;
    expect(await kept(line, "score", "in")).toEqual([null, "[null,1.5]"]);
    expect(await jsonl(`{"id":${value},"text":"x"}\n{"id":"b","text":"y","n":${value}}\n`)).toEqual(["1:no_id", "b=y"]);
    expect(await json(`[{"id":"a","text":"x","n":${value}},\n{"id":"b","text":"y"}]`)).toEqual(["1:a=x", "2:b=y"]);
  });

  test("a line with such a word that is no JSON otherwise stays a reject", async () => {
    expect(await jsonl('{"id":"a","text":NaNs}\n{"id":"b" "text":"NaN"}\n')).toEqual(["1:not_json", "2:not_json"]);
  });
});

describe("characters that no text has", () => {
  const lines = '{"id":"a","text":"x\\u0000y\\u0000"}\n{"id":"b","text":"\\ud83d!"}\n{"id":"c","text":"\\u0000"}\n';

  test.each<[RecordOptions["clean"], string[]]>([
    [undefined, ["a=x\uFFFDy\uFFFD", "2:lone_surrogate", "3:empty_text"]],
    ["nul", ["a=x\uFFFDy\uFFFD", "2:lone_surrogate", "3:empty_text"]],
    ["all", ["a=x\uFFFDy\uFFFD", "b=\uFFFD!", "3:empty_text"]],
    ["none", ["1:nul_character", "2:lone_surrogate", "3:nul_character"]],
  ])("--clean %s", async (clean, expected) => {
    expect(await jsonl(lines, { ...(clean !== undefined && { clean }) })).toEqual(expected);
  });

  test("what was replaced is counted; in ids nothing is", async () => {
    const items = await read(readJsonl, `${lines}{"id":"d\\u0000","text":"x"}\n`, { clean: "all" });
    expect(items.map((item) => (item.kind === "document" ? (item.replaced ?? 0) : item.reject.reason))).toEqual([
      2,
      1,
      "empty_text",
      "nul_character",
    ]);
  });

  test.each(["utf16le", "utf16be"])("half a pair in %s costs its line only", async (encoding) => {
    const text = '\uFEFF{"id":"a","text":"x"}\n{"id":"b","text":"\uDE00 x \uD83D"}\n{"id":"c","text":"\uD83D\uDE00"}\n';
    const bytes = Buffer.from(text, "utf16le");
    const content = encoding === "utf16le" ? bytes : bytes.swap16();
    expect(await jsonl(content)).toEqual(["a=x", "2:lone_surrogate", "c=😀"]);
    expect(await jsonl(content, { clean: "all" })).toEqual(["a=x", "b=\uFFFD x \uFFFD", "c=😀"]);
    expect(await jsonl(content.subarray(0, content.length - 1))).toEqual(["a=x", "2:lone_surrogate", "3:unreadable"]);
  });
});

describe("texts and ids", () => {
  test("a list of strings is joined like several fields", async () => {
    const lines = '{"id":"a","text":["x","y",null," "]}\n{"id":"b","text":[]}\n{"id":"c","text":["x",1]}\n';
    expect(await jsonl(lines)).toEqual(["a=x\n\ny", "2:empty_text", "3:no_text"]);
  });

  test("--generate-id row: by file and row, where there is no id", async () => {
    const lines =
      '{"text":"x"}\n{"id":"b","text":"y"}\n{"id":null,"text":"x"}\n{"id":"","text":"x"}\n{"id":{},"text":"x"}\n';
    const options = { generateId: "row", objectId: "in/f.jsonl" } as const;
    expect(await jsonl(lines, options)).toEqual([
      "in/f.jsonl:1=x",
      "b=y",
      "in/f.jsonl:3=x",
      "in/f.jsonl:4=x",
      "5:no_id",
    ]);
    expect(await json('[{"text":"x"},{"text":"y"}]', options)).toEqual(["1:in/f.jsonl:1=x", "1:in/f.jsonl:2=y"]);
  });

  test("--generate-id content: the same text has the same id, wherever it is", async () => {
    const options = { generateId: "content" } as const;
    const [a, b, c] = await read(readJsonl, '{"text":"x"}\n{"text":"y"}\n{"text":"x"}\n{"text":1}\n', options);
    const ids = [a, b, c].map((item) => item?.kind === "document" && item.document.id);
    expect(ids[0]).toMatch(/^[0-9a-f]{32}$/);
    expect(ids[2]).toBe(ids[0]);
    expect(ids[1]).not.toBe(ids[0]);
  });
});
