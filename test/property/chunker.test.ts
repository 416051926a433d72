import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { beforeAll, describe, expect, test } from "vitest";
import { loadTokenizer } from "../../models/tokenizer/native.ts";
import { type Chunk, chunkDocument } from "../../producers/chunking/spans.ts";
import { type Chunking, chunk, encodeTitles, outlineOf } from "../../producers/chunking/strategies.ts";
import type { Encoded, Tokenizer } from "../../src/core/ports.ts";

const MINI = fileURLToPath(new URL("../../models/mini/tokenizer.json", import.meta.url));

/** Characters that are more than one code unit, join others, turn the direction or expand. */
const PIECES = [
  "a",
  "the ",
  "😀",
  "👩‍👩‍👧",
  "e\u0301",
  "ﷺ",
  "日本",
  "語。",
  "שלום",
  "مرحبا ",
  "\u200f",
  "\n\n",
  "  ",
  "ก็",
  "𝕏",
  "<s>",
  "\u200b",
];

const texts = fc
  .array(fc.oneof(fc.constantFrom(...PIECES), fc.string({ unit: "binary", maxLength: 8 })), { maxLength: 60 })
  .map((pieces) => pieces.join(""));

/** What ends sentences, paragraphs and sections. */
const MARKS = [
  ". ",
  "! ",
  "。",
  ".\n\n",
  "\n# Title\n",
  "\n## Under it\n\n",
  "\nSetext\n===\n",
  "\n```\n",
  "\r\n\r\n",
  "\n---\n",
];

const limits = fc
  .integer({ min: 3, max: 20 })
  .chain((maxTokens) =>
    fc.record({ maxTokens: fc.constant(maxTokens), overlap: fc.integer({ min: 0, max: maxTokens - 3 }) }),
  );

describe("chunks of any text, cut by the mini model's tokenizer", () => {
  let tokenizer: Tokenizer;
  beforeAll(async () => {
    tokenizer = await loadTokenizer(MINI);
  });

  async function encode(text: string): Promise<Encoded> {
    const [encoded] = await tokenizer.encode({ texts: [text], startsAbove: 0 });
    return encoded!;
  }

  test("hold at most maxTokens, and all ids in order with the overlap asked for", async () => {
    await fc.assert(
      fc.asyncProperty(texts, limits, async (text, { maxTokens, overlap }) => {
        const encoded = await encode(text);
        const { prefixIds, suffixIds } = tokenizer;
        const chunks = chunkDocument({ text, encoded, maxTokens, overlap, prefixIds, suffixIds });
        expect(chunks.every((chunk) => chunk.ids.length <= maxTokens)).toBe(true);
        const bare = chunks.map((chunk) => [...chunk.ids].slice(prefixIds.length, chunk.ids.length - suffixIds.length));
        expect(bare.flatMap((ids, k) => (k === 0 ? ids : ids.slice(overlap)))).toEqual([...encoded.ids]);
        bare.slice(1).forEach((ids, k) => {
          expect(ids.slice(0, overlap)).toEqual(bare[k]!.slice(bare[k]!.length - overlap));
        });
      }),
      { numRuns: 200 },
    );
  });

  test("cover the text: spans follow each other without a gap, and without overlap they are the text", async () => {
    await fc.assert(
      fc.asyncProperty(texts, limits, async (text, { maxTokens, overlap }) => {
        const encoded = await encode(text);
        const chunks = chunkDocument({ text, encoded, maxTokens, overlap, prefixIds: [0], suffixIds: [2] });
        expect(chunks[0]!.charStart).toBe(0);
        expect(chunks.at(-1)!.charEnd).toBe(text.length);
        chunks.forEach((chunk, k) => {
          expect(chunk.text).toBe(text.slice(chunk.charStart, chunk.charEnd));
          if (k > 0) expect(chunk.charStart).toBeLessThanOrEqual(chunks[k - 1]!.charEnd);
        });
        if (overlap === 0) expect(chunks.map((chunk) => chunk.text).join("")).toBe(text);
      }),
      { numRuns: 200 },
    );
  });

  test("never split a surrogate pair", async () => {
    await fc.assert(
      fc.asyncProperty(texts, limits, async (text, { maxTokens, overlap }) => {
        fc.pre(text.isWellFormed());
        const chunks = chunkDocument({
          text,
          encoded: await encode(text),
          maxTokens,
          overlap,
          prefixIds: [0],
          suffixIds: [2],
        });
        expect(chunks.every((chunk) => chunk.text.isWellFormed())).toBe(true);
      }),
      { numRuns: 200 },
    );
  });

  const strategies = fc.constantFrom<Chunking>("document", "tokens", "sentences", "paragraphs", "markdown");
  const prose = fc
    .array(fc.oneof(fc.constantFrom(...PIECES, ...MARKS), fc.string({ unit: "binary", maxLength: 8 })), {
      maxLength: 60,
    })
    .map((pieces) => pieces.join(""));

  async function chunksBy(chunking: Chunking, text: string, maxTokens: number, overlap: number): Promise<Chunk[]> {
    const outline = outlineOf(text, chunking);
    const titles = await encodeTitles([outline], tokenizer);
    const { prefixIds, suffixIds } = tokenizer;
    const encoded = await encode(text);
    return chunk({ text, encoded, chunking, outline, titles, maxTokens, overlap, prefixIds, suffixIds });
  }

  test("by every strategy: none too long, none empty, the text without gaps, and the same each time", async () => {
    await fc.assert(
      fc.asyncProperty(strategies, prose, limits, async (chunking, text, { maxTokens, overlap }) => {
        const chunks = await chunksBy(chunking, text, maxTokens, overlap);
        expect(chunks.every(({ ids }) => ids.length <= maxTokens)).toBe(true);
        expect(chunks[0]!.charStart).toBe(0);
        expect(chunks.at(-1)!.charEnd).toBe(text.length);
        chunks.forEach(({ charStart, charEnd, text: shown, ids }, k) => {
          expect(shown.endsWith(text.slice(charStart, charEnd))).toBe(true);
          if (k > 0) expect(charStart).toBeLessThanOrEqual(chunks[k - 1]!.charEnd);
          if (k > 0) expect(charStart).toBeGreaterThanOrEqual(chunks[k - 1]!.charStart);
          if (chunks.length > 1) expect(ids.length).toBeGreaterThan(2);
        });
        if (overlap === 0) {
          const own = chunks.map(({ charStart, charEnd }) => text.slice(charStart, charEnd));
          expect(own.join("")).toBe(text);
        }
        expect(await chunksBy(chunking, text, maxTokens, overlap)).toEqual(chunks);
      }),
      { numRuns: 300 },
    );
  });
});
