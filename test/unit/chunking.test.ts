import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { loadTokenizer } from "../../models/tokenizer/native.ts";
import { paragraphStarts, sentenceStarts } from "../../producers/chunking/boundaries.ts";
import { type Chunk, cutSpans } from "../../producers/chunking/spans.ts";
import { type Chunking, chunk, encodeTitles, outlineOf } from "../../producers/chunking/strategies.ts";
import { markdownSections } from "../../producers/chunking/markdown.ts";

const tokenizer = await loadTokenizer(fileURLToPath(new URL("../../models/mini/tokenizer.json", import.meta.url)));

async function chunksOf(text: string, chunking: Chunking, maxTokens: number, overlap = 0): Promise<Chunk[]> {
  const outline = outlineOf(text, chunking);
  const titles = await encodeTitles([outline], tokenizer);
  const [encoded] = await tokenizer.encode({ texts: [text], startsAbove: 0 });
  const { prefixIds, suffixIds } = tokenizer;
  return chunk({ text, encoded: encoded!, chunking, outline, titles, maxTokens, overlap, prefixIds, suffixIds });
}

async function textsOf(...args: Parameters<typeof chunksOf>): Promise<string[]> {
  return (await chunksOf(...args)).map(({ text }) => text);
}

function split(text: string, starts: readonly number[]): string[] {
  return [0, ...starts].map((start, i, all) => text.slice(start, all[i + 1]));
}

describe("places", () => {
  test("paragraphs begin after blank lines, whatever ends the lines", () => {
    const text = "One.\nStill one.\n\nTwo.\r\n \t\r\n\nThree.\n\n";
    expect(split(text, paragraphStarts(text))).toEqual(["One.\nStill one.\n\n", "Two.\r\n \t\r\n\n", "Three.\n\n"]);
  });

  test("sentences of any script, and none across paragraphs", () => {
    const text = "It was built in 1850. It stands!\n\nno capital here 灯塔很高。它很老。Kas se? 😀 On.";
    expect(split(text, sentenceStarts(text))).toEqual([
      "It was built in 1850. ",
      "It stands!\n\n",
      "no capital here 灯塔很高。",
      "它很老。",
      "Kas se? ",
      "😀 On.",
    ]);
  });

  test("a long text takes time in proportion, and its pieces make no sentences of their own", () => {
    const text = `${"word ".repeat(100_000)}end. Next.`;
    expect(split(text, sentenceStarts(text)).at(-1)).toBe("Next.");
    expect(sentenceStarts(text)).toHaveLength(1);
  });
});

describe("spans", () => {
  const spans = (overlap: number, ...levels: number[][]): number[][] =>
    cutSpans({ start: 0, end: 30, room: 10, overlap, levels }).map(({ start, end }) => [start, end]);

  test("as many whole units as fit, else the next level, else anywhere", () => {
    expect(spans(0, [4, 8, 15, 29])).toEqual([
      [0, 8],
      [8, 15],
      [15, 25],
      [25, 30],
    ]);
    expect(spans(0, [8, 29], [4, 8, 12, 16, 20, 24, 29])).toEqual([
      [0, 8],
      [8, 16],
      [16, 24],
      [24, 30],
    ]);
  });

  test("the overlap is whole units where there are any, and never stands still", () => {
    expect(spans(4, [3, 6, 9, 12, 15, 18, 21, 24, 27])).toEqual([
      [0, 9],
      [6, 15],
      [12, 21],
      [18, 27],
      [24, 30],
    ]);
    expect(spans(9, [9, 10, 11])).toEqual([
      [0, 10],
      [9, 11],
      [10, 20],
      [11, 21],
      [12, 22],
      [13, 23],
      [14, 24],
      [15, 25],
      [16, 26],
      [17, 27],
      [18, 28],
      [19, 29],
      [20, 30],
    ]);
  });
});

describe("strategies", () => {
  const prose = "First sentence here. Second one follows.\n\nA new paragraph begins now. It ends.\n\nThe last.";

  test("document and tokens cut between any two tokens, sentences and paragraphs at theirs", async () => {
    expect(await textsOf(prose, "document", 8192)).toEqual([prose]);
    expect((await textsOf(prose, "tokens", 8)).length).toBeGreaterThan(3);
    const bySentence = split(prose, sentenceStarts(prose));
    for (const text of await textsOf(prose, "sentences", 16))
      expect(bySentence.some((s) => text.endsWith(s))).toBe(true);
    const byParagraph = split(prose, paragraphStarts(prose));
    const whole = Math.max(
      ...(await Promise.all(byParagraph.map(async (p) => (await chunksOf(p, "document", 999))[0]!.ids.length))),
    );
    for (const text of await textsOf(prose, "paragraphs", whole))
      expect(byParagraph.some((p) => text.endsWith(p))).toBe(true);
  });

  test("Markdown: a chunk for each section, under the headings that it lies under", async () => {
    const text =
      "Intro.\n\n# Guide\n\n## Install\n\nRun it.\n\n```\n# no heading\n```\n\nSetext\n------\nMore.\n\n# Other\nEnd.\n";
    const chunks = await chunksOf(text, "markdown", 512);
    expect(chunks.map((each) => each.text)).toEqual([
      "Intro.\n\n",
      "# Guide\n\n## Install\n\nRun it.\n\n```\n# no heading\n```\n\n",
      "Guide\n\nSetext\n------\nMore.\n\n",
      "# Other\nEnd.\n",
    ]);
    expect(chunks.map(({ charStart, charEnd }) => text.slice(charStart, charEnd)).join("")).toBe(text);
    const [alone] = await tokenizer.encode({ texts: [chunks[2]!.text] });
    expect([...chunks[2]!.ids].slice(1, -1)).toEqual([...alone!.ids]);
  });

  test("Markdown: later pieces of a section lie under its own heading too, and contexts stay short", async () => {
    const text = `# Guide\n## Install\n${"Words of the section. ".repeat(30)}\n# ${"long ".repeat(40)}\n${"Others. ".repeat(60)}`;
    const chunks = await chunksOf(text, "markdown", 40);
    expect(chunks[1]!.text.startsWith("Guide > Install\n\nWords")).toBe(true);
    expect(chunks.every(({ ids }) => ids.length <= 40)).toBe(true);
    expect(chunks.at(-1)!.text).toMatch(/^Others\./);
  });

  test("front matter is no heading, nor are headings in quotes and lists", () => {
    const text = "---\ntitle: x\n---\n> # Quoted\n\n- # Listed\n\n# Real\nText.\n";
    expect(markdownSections(text).map(({ start, path }) => [text.slice(start, start + 6), path])).toEqual([
      ["---\nti", []],
      ["# Real", ["Real"]],
    ]);
  });
});
