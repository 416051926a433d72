/** What every format of records gives, whoever wrote the file: the documents of `rows.jsonl`. */
import { readFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { Corpus, type CorpusParams } from "../../producers/corpus.ts";
import type { SourceItem } from "../../src/core/documents.ts";
import { SELECTION } from "../fixtures/run-options.ts";
import { collect } from "../fixtures/sources.ts";

export const FILES = fileURLToPath(new URL("../fixtures/files", import.meta.url));

export interface KnownRow {
  readonly id: string;
  readonly number: number;
  readonly lang: string;
  readonly year: number;
  readonly title: string | null;
  readonly text: string;
}

export async function knownRows(): Promise<KnownRow[]> {
  const lines = (await readFile(join(FILES, "rows.jsonl"), "utf8")).trimEnd().split("\n");
  return lines.map((line) => JSON.parse(line) as KnownRow);
}

export async function readItems(inputs: readonly string[], options: Partial<CorpusParams> = {}): Promise<SourceItem[]> {
  const corpus = new Corpus({ inputs, ...SELECTION, maxDocumentBytes: 1024 * 1024, ...options });
  try {
    await corpus.check();
    return await collect(corpus.items());
  } finally {
    await corpus.close();
  }
}

function idsOf(items: readonly SourceItem[]): (string | null)[] {
  return items.map((item) => (item.kind === "document" ? item.document.id : item.reject.id));
}

export interface RecordFormat {
  /** The path of a file that has the rows. */
  readonly file: () => Promise<string>;
  /** Columns are known before a row is read. */
  readonly hasSchema: boolean;
  /** What is not there and what is the empty string are told apart. */
  readonly hasNulls: boolean;
}

export function recordSourceSuite(name: string, { file, hasSchema, hasNulls }: RecordFormat): void {
  describe(name, () => {
    test("every document, in order, at its place", async () => {
      const path = await file();
      const items = await readItems([path]);
      const rows = await knownRows();
      expect(items.map((item) => item.kind === "document" && [item.document.id, item.document.text])).toEqual(
        rows.map(({ id, text }) => [id, text]),
      );
      const lines = items.map((item) => (item.kind === "document" ? item.document.origin : item.reject));
      expect(lines.every(({ file }) => file === path)).toBe(true);
      expect(lines.every(({ line }, i) => i === 0 || line! > lines[i - 1]!.line!)).toBe(true);
    });

    test("several text fields are joined in order by a blank line; a missing one is left out", async () => {
      const items = await readItems([await file()], { textFields: ["title", "text"] });
      const expected = (await knownRows()).map(({ title, text }) => (title === null ? text : `${title}\n\n${text}`));
      expect(items.map((item) => item.kind === "document" && item.document.text)).toEqual(expected);
    });

    test("ids may be numbers; conditions, sample and limit choose among the rows", async () => {
      const path = await file();
      const where: CorpusParams["where"] = [
        { field: "lang", operator: "=", value: "en" },
        { field: "year", operator: ">=", value: "2020" },
      ];
      const numbers = (await knownRows())
        .filter(({ lang, year }) => lang === "en" && year >= 2020)
        .map(({ number }) => String(number));
      expect(idsOf(await readItems([path], { idField: "number", where }))).toEqual(numbers);
      expect(idsOf(await readItems([path], { idField: "number", where, limit: 4 }))).toEqual(numbers.slice(0, 4));
      const sampled = idsOf(await readItems([path], { sample: 0.3 }));
      expect(sampled.length).toBeGreaterThan(10);
      expect(sampled.length).toBeLessThan(50);
      expect(sampled).toEqual(idsOf(await readItems([join(FILES, "rows.jsonl")], { sample: 0.3 })));
    });

    test("fields to keep come with each document, null where one is missing", async () => {
      const items = await readItems([await file()], { keep: ["year", "title"] });
      expect(items.map((item) => item.kind === "document" && item.document.kept)).toEqual(
        (await knownRows()).map(({ year, title }) => [String(year), title ?? (hasNulls ? null : "")]),
      );
    });

    test("a text field that is not there is named, with those that are", async () => {
      const read = readItems([await file()], { textFields: ["body"] });
      if (!hasSchema) {
        expect(await read).toMatchObject(Array.from({ length: 90 }, () => ({ reject: { reason: "no_text" } })));
        return;
      }
      await expect(read).rejects.toMatchObject({
        code: "bad_usage",
        message: expect.stringMatching(new RegExp(`${basename(await file())}.*body.*id.*title.*text`)),
        cure: expect.stringContaining("--text-field"),
      });
    });
  });
}
