/** CSV by Python's csv module and by the rules of RFC 4180: whatever the fields hold, they are read as they were written. */
import { execFileSync } from "node:child_process";
import { parse } from "csv-parse/sync";
import fc from "fast-check";
import { expect, test } from "vitest";
import { readCsv } from "../../producers/sources/csv.ts";
import type { RecordOptions } from "../../producers/sources/record.ts";
import { collect, pipeOf, READ_OPTIONS } from "../fixtures/sources.ts";

/** Of few characters, so that what means something to a reader comes often and next to each other. */
const field = fc.string({
  unit: fc.constantFrom("a", " ", '"', ",", ";", "\t", "\n", "\r", "\\", "'", "é", "😀"),
  maxLength: 8,
});
const table = fc.array(fc.tuple(field, field), { minLength: 1, maxLength: 8 });

type Options = Partial<RecordOptions> & { format: "csv" | "tsv" };

/** The two fields of each row, of which one is kept; each text begins with a mark, as an empty one is no document. */
async function rowsOf(content: Buffer, chunkBytes: number, options: Options): Promise<unknown[]> {
  const chunks: Buffer[] = [];
  for (let at = 0; at < content.length; at += chunkBytes) chunks.push(content.subarray(at, at + chunkBytes));
  const all = { ...READ_OPTIONS, keep: ["x"], generateId: "row" as const, objectId: "", ...options };
  const items = await collect(readCsv(pipeOf(chunks, "f"), all));
  return items.map((item) =>
    item.kind === "document" ? [item.document.text.slice(1), item.document.kept?.[0]] : item,
  );
}

test("RFC 4180, with any line end: as csv-parse reads it", async () => {
  const lineEnd = fc.constantFrom("\n", "\r\n");
  const always = fc.boolean();
  await fc.assert(
    fc.asyncProperty(table, lineEnd, always, fc.integer({ min: 1, max: 7 }), async (rows, end, isAlways, size) => {
      const quoted = (text: string): string =>
        isAlways || /["\n\r,;\t|]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
      const lines = [["text", "x"], ...rows.map(([a, b]) => [`.${a}`, b] as const)];
      const content = lines.map((row) => row.map((each) => quoted(each)).join(",") + end).join("");
      const records = parse<{ text: string; x: string }>(content, { columns: true, record_delimiter: end });
      const expected = records.map(({ text, x }) => [text.slice(1), x]);
      expect(expected).toEqual(rows);
      expect(await rowsOf(Buffer.from(content), size, { format: "csv" })).toEqual(expected);
    }),
    { numRuns: 300 },
  );
});

const WRITE = `
import csv, io, json, sys
out = []
for case in json.load(sys.stdin):
    file = io.StringIO(newline="")
    writer = csv.writer(file, **{**case["dialect"], "quoting": getattr(csv, case["dialect"]["quoting"])})
    writer.writerows(case["rows"])
    out.append(file.getvalue())
json.dump(out, sys.stdout)
`;

const DIALECTS: readonly [string, Record<string, unknown>, Options][] = [
  ["minimal", { quoting: "QUOTE_MINIMAL" }, { format: "csv" }],
  ["quotes everywhere", { quoting: "QUOTE_ALL", delimiter: ";", lineterminator: "\n" }, { format: "csv" }],
  [
    "escapes within quotes",
    { quoting: "QUOTE_ALL", doublequote: false, escapechar: "\\" },
    { format: "csv", escape: "\\" },
  ],
  [
    "escapes without quotes",
    { quoting: "QUOTE_NONE", delimiter: "\t", escapechar: "\\", quotechar: null, lineterminator: "\n" },
    { format: "tsv", escape: "\\" },
  ],
  ["other quotes", { quoting: "QUOTE_MINIMAL", quotechar: "'" }, { format: "csv", quote: "'", delimiter: "," }],
];

test.each(DIALECTS)("Python's csv: %s", async (_, dialect, options) => {
  // A line end in a field that is not quoted cannot be told from a row's, unless it is escaped; a lone \r is.
  const tables = fc
    .sample(table, { numRuns: 200, seed: 1 })
    .map((rows) =>
      rows.map(([a, b]) =>
        dialect["quoting"] === "QUOTE_NONE" ? [a.replaceAll("\r", ""), b.replaceAll("\r", "")] : [a, b],
      ),
    );
  const cases = tables.map((rows) => ({ dialect, rows: [["text", "x"], ...rows.map(([a, b]) => [`.${a}`, b])] }));
  const written = JSON.parse(
    execFileSync("python3", ["-c", WRITE], { input: JSON.stringify(cases), maxBuffer: 1 << 26, encoding: "utf8" }),
  ) as string[];
  for (const [i, content] of written.entries())
    expect(await rowsOf(Buffer.from(content), 5, options), JSON.stringify(content)).toEqual(tables[i]);
});
