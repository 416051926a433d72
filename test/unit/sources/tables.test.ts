/** CSV and TSV as other programs write them: line ends, quotes, escapes, files without a header. */
import { describe, expect, test } from "vitest";
import { readCsv } from "../../../producers/sources/csv.ts";
import type { RecordOptions } from "../../../producers/sources/record.ts";
import type { SourceItem } from "../../../src/core/documents.ts";
import { brief, bytesOneByOne, collect, pipeOf, READ_OPTIONS } from "../../fixtures/sources.ts";

type Options = Partial<RecordOptions> & { format?: "csv" | "tsv" };

async function read(content: string | Buffer, options: Options = {}): Promise<SourceItem[]> {
  const all = { ...READ_OPTIONS, format: "csv" as const, ...options };
  const whole = await collect(readCsv(pipeOf([Buffer.from(content)], "rows"), all));
  const pieces = await collect(readCsv(pipeOf(bytesOneByOne(Buffer.from(content)), "rows"), all));
  expect(pieces).toEqual(whole);
  return whole;
}

/** `line:id=text` of a document, `line:reason` of a reject. */
async function shown(content: string | Buffer, options: Options = {}): Promise<string[]> {
  return (await read(content, options)).map((item) =>
    item.kind === "document" ? `${item.document.origin.line}:${brief(item)}` : brief(item),
  );
}

describe("line ends", () => {
  test.each<[string, string, string[], Options?]>([
    ["\\n, then \\r\\n", "text,id\nabc,1\r\ndef,2\r\n", ["2:1=abc", "3:2=def"]],
    [
      "\\r\\n after the header only, one column",
      "text\r\nfirst text\nsecond text\n",
      ["2:first text=first text", "3:second text=second text"],
      { idField: "text" },
    ],
    ["\\r\\n after the header only", "id,text\r\n1,abc\n2,def\n3,ghi\n", ["2:1=abc", "3:2=def", "4:3=ghi"]],
    ["a lone \\r in a text is no line", "id,text\n1,ab\rcd\n2,\n3,x\n", ["2:1=ab\rcd", "3:empty_text", "4:3=x"]],
    ["\\r throughout", "id,text\r1,a\r2,\r3,c", ["2:1=a", "3:empty_text", "4:3=c"]],
    ["\\r throughout, the last one too", "id,text\r1,a\r", ["2:1=a"]],
    ["\\r, \\r\\n and \\n", "id,text\r1,a\r\n2,b\n3,c\r4,d", ["2:1=a", "3:2=b", "4:3=c", "5:4=d"]],
    ["\\n after the header, then \\r", "id,text\n1,a\r2,b\r3,c\r", ["2:1=a", "2:2=b", "2:3=c"]],
    ["\\r\\r\\n, as programs that translate twice write it", "id,text\r\r\n1,a\r\r\n", ["3:1=a"]],
    ["within quotes as they are", 'id,text\n1,"a\r\nb\rc"\r\n2,d\n', ["2:1=a\r\nb\rc", "4:2=d"]],
    ["blank lines of any kind", "id,text\n\r\n\n1,a\r\n\r\n2,b", ["4:1=a", "6:2=b"]],
    ["TSV", "id\ttext\r\n1\ta\n2\tb\r\n", ["2:1=a", "3:2=b"], { format: "tsv" }],
  ])("%s", async (_, content, expected, options) => {
    expect(await shown(content, options)).toEqual(expected);
  });
});

describe("quotes in TSV are text", () => {
  test.each<[string, string, string[], Options?]>([
    [
      "that opens, closes, or stands alone",
      'id\ttext\n1\t"Heroes" is a song\n2\t"Let it be\n3\tplain\n4\tends with quote"\n',
      ['2:1="Heroes" is a song', '3:2="Let it be', "4:3=plain", '5:4=ends with quote"'],
    ],
    ["around a whole text", 'id\ttext\n1\t"quoted"\n', ['2:1="quoted"']],
    ["in two rows that would be one", 'id\ttext\n1\t"a\n2\tb"\n3\tc\n', ['2:1="a', '3:2=b"', "4:3=c"]],
    ["to the end of the file", 'id\ttext\n1\t"a\n2\tb\n', ['2:1="a', "3:2=b"]],
    ["unless a row needs them: a tab", 'id\ttext\n1\t"a\tb"\n2\tc\n', ["2:1=a\tb", "3:2=c"]],
    ["or a line end", 'id\ttext\n1\t"a ""b""\nc"\n2\td\n', ['2:1=a "b"\nc', "4:2=d"]],
    ["or names with quotes, too", '"id"\t"text"\n"1"\t"a"\n', ["2:1=a"]],
    ["and never with --quote none", 'id\ttext\n1\t"a\tb"\n2\t"c"\n', ["2:not_csv", '3:2="c"'], { quote: "none" }],
    ["and always with --quote", 'id\ttext\n1\t"a"\n', ["2:1=a"], { quote: '"' }],
  ])("%s", async (_, content, expected, options) => {
    expect(await shown(content, { format: "tsv", ...options })).toEqual(expected);
  });

  test("a reject of a row that has quotes says how they would count", async () => {
    const [item] = await read('id\ttext\n1\t"a\tb"\tc\n', { format: "tsv" });
    expect(item).toMatchObject({ reject: { detail: expect.stringContaining("--quote") } });
  });
});

describe("a quoted field that does not close as it should", () => {
  test.each<[string, string, string[], Options?]>([
    [
      "ends in the middle of a later line",
      'id,text\n1,a\n2,"b\n3,c "x" d\n4,d\n',
      ["2:1=a", "3:not_csv", '4:3=c "x" d', "5:4=d"],
    ],
    ["never ends", 'id,text\n1,a\n2,"b\n3,c\n4,d\n', ["2:1=a", "3:not_csv", "4:3=c", "5:4=d"]],
    [
      "would be longer than a document may be",
      `id,text\n1,"a\n${Array.from({ length: 200 }, (_, i) => `${i + 2},some text\n`).join("")}`,
      ["2:too_long", ...Array.from({ length: 200 }, (_, i) => `${i + 3}:${i + 2}=some text`)],
    ],
    [
      "is not the first of its row: it is named by its own line",
      'id,text,x\n1,"a\nb","c\n2,d,"y" z\n3,e,f\n',
      ["3:not_csv", "4:2=d", "5:3=e"],
    ],
    ["is closed in its line: a word in quotes", 'id,text\n1,"so" he said\n2,b\n', ['2:1="so" he said', "3:2=b"]],
    ["follows another that does not", 'id,text\n1,"a\n2,"b\n3,"c"\n', ["2:not_csv", "3:not_csv", "4:3=c"]],
    [
      "follows a line above the limit",
      `id,text\n1,"a\n${"x".repeat(2000)}\n2,b\n`,
      ["2:too_long", "3:too_long", "4:2=b"],
    ],
  ])("%s", async (_, content, expected, options) => {
    expect(await shown(content, options)).toEqual(expected);
  });
});

describe("how the fields are written", () => {
  test.each<[string, string, string[], Options]>([
    ["Spark", 'id,text\n1,"say \\"hi\\", \\\\o/ C:\\dir"\n', ['2:1=say "hi", \\o/ C:\\dir'], { escape: "\\" }],
    ["Spark, over lines", 'id,text\n1,"a \\"b\nc\\" d"\n2,e\n', ['2:1=a "b\nc" d', "4:2=e"], { escape: "\\" }],
    ["Spark, without quotes", "id,text\n1,C:\\dir\\,x\n", ["2:not_csv"], { escape: "\\" }],
    [
      "MySQL's OUTFILE",
      "1\ta\\\tb\\\nc\\\\d\n2\t\\N\n3\tx\\",
      ["1:1=a\tb\nc\\d", "3:no_text", "4:3=x"],
      { format: "tsv", escape: "\\", columns: ["id", "text"] },
    ],
    [
      "Hive",
      "1\x01a, b\x01en\n2\x01c\x01fi\n",
      ["1:1=a, b", "2:2=c"],
      { delimiter: "\x01", columns: ["id", "text", "l"] },
    ],
    ["quotes of another kind", "id,text\n1,'a, ''b'''\n2,\"c\"\n", ["2:1=a, 'b'", '3:2="c"'], { quote: "'" }],
    ["no header", "1,a\n2,b\n", ["1:1=a", "2:2=b"], { columns: ["id", "text"] }],
    ["no header, of another delimiter", "1;a, b, c\n2;b\n", ["1:1=a, b, c", "2:2=b"], { columns: ["id", "text"] }],
    ["no header, a ragged row", "1,a\n2\n", ["1:1=a", "2:not_csv"], { columns: ["id", "text"] }],
    [
      "a delimiter that the header has not most of",
      "a;b,id;c,text\n1;x,2;y,z\n",
      ["2:2;y=z"],
      {
        delimiter: ",",
        idField: "id;c",
      },
    ],
  ])("%s", async (_, content, expected, options) => {
    expect(await shown(content, options)).toEqual(expected);
  });
});

describe("a text of UTF-16 with half of a surrogate pair", () => {
  const content = Buffer.concat([Buffer.from("\uFEFFid,text\n1,a\n2,\uD83D half\n3,\uD83D\uDE00\n", "utf16le")]);

  test("is rejected for itself", async () => {
    expect(await shown(content)).toEqual(["2:1=a", "3:lone_surrogate", "4:3=😀"]);
  });

  test("is mended with --clean all, and counted", async () => {
    const items = await read(content, { clean: "all" });
    expect(items.map(brief)).toEqual(["1=a", "2=\uFFFD half", "3=😀"]);
    expect(items.map((item) => item.kind === "document" && item.replaced)).toEqual([undefined, 1, undefined]);
  });
});
