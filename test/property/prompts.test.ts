/** Rows with a prompt have the ids that Hugging Face's library gives for prompt and text as one text. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import fc from "fast-check";
import { Tokenizer as Native } from "tokenizers";
import { describe, expect, test } from "vitest";
import { encodeRows } from "../../models/tokenizer/encode-prompted.ts";
import { loadTokenizer } from "../../models/tokenizer/native.ts";
import { LocalChunker } from "../../producers/chunking/chunker.ts";
import type { RowColumns } from "../../producers/chunking/row-columns.ts";
import type { Tokenizer } from "../../src/core/ports.ts";
import { tempFolder } from "../fixtures/temp-folder.ts";
import { TOKENIZERS } from "../fixtures/tokenizers.ts";

const PROMPTS = [
  "query: ",
  "query:",
  "passage: ",
  "task: search result | query: ",
  "Instruct: find\nQuery: ",
  "the",
  " ",
];
const PARTS = [
  "the river",
  "in",
  "of",
  "query",
  "passage: ",
  " ",
  "  ",
  "\n\n",
  "\n# Title\n",
  ". ",
  "",
  "東京",
  "🙂",
  "e\u0301",
  "\u0301x",
  "rivers",
  "ALL Caps",
  "?!",
  "\t",
  "<s>",
  "ing",
];

const texts = fc.array(fc.constantFrom(...PARTS), { maxLength: 12 }).map((parts) => parts.join(""));
const longTexts = fc.array(fc.constantFrom(...PARTS), { minLength: 10, maxLength: 80 }).map((parts) => parts.join(""));

async function opened(json: string): Promise<{ tokenizer: Tokenizer; whole: (text: string) => Promise<number[]> }> {
  const file = join(await tempFolder(), "tokenizer.json");
  await writeFile(file, json);
  const native = Native.fromString(json);
  const whole = async (text: string): Promise<number[]> =>
    (await native.encode(text, null, { addSpecialTokens: true })).getIds();
  return { tokenizer: await loadTokenizer(file), whole };
}

function rowsOf({
  offsets,
  tokenIds,
  texts,
  charStarts,
  charEnds,
}: RowColumns): { ids: number[]; text: string; span: [number, number] }[] {
  return Array.from(charStarts, (start, row) => ({
    ids: [...tokenIds.subarray(offsets[row], offsets[row + 1])],
    text: Buffer.from(texts!.bytes.subarray(texts!.offsets[row], texts!.offsets[row + 1])).toString(),
    span: [start, charEnds[row]!],
  }));
}

describe.each(Object.entries(TOKENIZERS))("%s", (_, json) => {
  test("a row", async () => {
    const { tokenizer, whole } = await opened(json);
    await fc.assert(
      fc.asyncProperty(fc.constantFrom("", ...PROMPTS), texts, async (prompt, text) => {
        const [ids] = await encodeRows({ ...tokenizer, prompt }, { texts: [text], maxTokens: 512 });
        expect([...ids!]).toEqual(await whole(prompt + text));
      }),
      { numRuns: 150 },
    );
  });

  test("a chunk, within its length, and the chunks are the document", async () => {
    const { tokenizer, whole } = await opened(json);
    const chunkings = fc.constantFrom("document", "tokens", "sentences", "paragraphs", "markdown");
    const anyPrompt = fc.constantFrom(...PROMPTS);
    await fc.assert(
      fc.asyncProperty(
        anyPrompt,
        longTexts,
        chunkings,
        fc.integer({ min: 80, max: 140 }),
        async (prompt, text, chunking, chunkTokens) => {
          const options = { chunking, chunkTokens, overlap: 0, keepText: true } as const;
          const chunker = new LocalChunker({ tokenizer: { ...tokenizer, prompt }, options });
          const rows = rowsOf(await chunker.cut([text, "the river"]));
          for (const row of rows) {
            expect(row.ids).toEqual(await whole(prompt + row.text));
            expect(row.ids.length).toBeLessThanOrEqual(chunkTokens);
          }
          expect(
            rows
              .slice(0, -1)
              .map(({ span: [start, end] }) => text.slice(start, end))
              .join(""),
          ).toBe(text);
        },
      ),
      { numRuns: 60 },
    );
  });
});

test.each(Object.entries(TOKENIZERS).filter(([name]) => name.includes("byte-level")))(
  "a chunk below headings, without a prompt: %s",
  async (_, json) => {
    const { tokenizer, whole } = await opened(json);
    const options = { chunking: "markdown", chunkTokens: 60, overlap: 0, keepText: true } as const;
    const chunker = new LocalChunker({ tokenizer, options });
    const text = "# Title\n\nthe river in.\n\n## document of\n\nrivers of the passage\n\n# Rivers\n\nof the result";
    const rows = rowsOf(await chunker.cut([text]));
    expect(rows.some((row) => row.text.startsWith("Title\n\n## document"))).toBe(true);
    for (const { ids, text: own } of rows) expect(ids).toEqual(await whole(own));
  },
);
