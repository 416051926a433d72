import { describe, expect, test } from "vitest";
import { chunkDocument, cutSpans } from "../../producers/chunking/spans.ts";

/** One token a character, its id the code unit. */
function perCharacter(text: string): { text: string; encoded: { ids: Int32Array; starts: Uint32Array } } {
  const ids = Int32Array.from(text, (c) => c.codePointAt(0)!);
  return { text, encoded: { ids, starts: Uint32Array.from(ids.keys()) } };
}

const SPECIALS = { prefixIds: [0], suffixIds: [2] };

describe("windows over tokens", () => {
  test.each([
    ["nothing", 0, 3, 0, [[0, 0]]],
    ["exactly one", 3, 3, 0, [[0, 3]]],
    [
      "one token more",
      4,
      3,
      0,
      [
        [0, 3],
        [3, 4],
      ],
    ],
    [
      "exactly two",
      6,
      3,
      0,
      [
        [0, 3],
        [3, 6],
      ],
    ],
    [
      "an overlap",
      7,
      4,
      2,
      [
        [0, 4],
        [2, 6],
        [4, 7],
      ],
    ],
    [
      "an overlap that ends exactly: no piece that is all overlap",
      6,
      4,
      2,
      [
        [0, 4],
        [2, 6],
      ],
    ],
    [
      "the largest overlap",
      5,
      3,
      2,
      [
        [0, 3],
        [1, 4],
        [2, 5],
      ],
    ],
  ])("%s", (_, tokens, room, overlap, expected) => {
    expect(
      cutSpans({ start: 0, end: tokens, room, overlap, levels: [] }).map(({ start, end }) => [start, end]),
    ).toEqual(expected);
  });
});

test("what fits is one chunk, which needs no positions", () => {
  const encoded = { ids: Int32Array.of(7, 8), starts: new Uint32Array(0) };
  const chunks = chunkDocument({ text: " ab ", encoded, maxTokens: 4, overlap: 0, ...SPECIALS });
  expect(chunks).toEqual([{ ids: Int32Array.of(0, 7, 8, 2), charStart: 0, charEnd: 4, text: " ab " }]);
});

test("a text without tokens is a row of special tokens", () => {
  const encoded = { ids: new Int32Array(0), starts: new Uint32Array(0) };
  const chunks = chunkDocument({ text: "\u200b", encoded, maxTokens: 8, overlap: 0, ...SPECIALS });
  expect(chunks).toEqual([{ ids: Int32Array.of(0, 2), charStart: 0, charEnd: 1, text: "\u200b" }]);
});

test("pieces hold special tokens, overlap by tokens, and know their place in the text", () => {
  const chunks = chunkDocument({ ...perCharacter("abcdef"), maxTokens: 6, overlap: 2, ...SPECIALS });
  expect(chunks.map((chunk) => [chunk.text, chunk.charStart, chunk.charEnd])).toEqual([
    ["abcd", 0, 4],
    ["cdef", 2, 6],
  ]);
  expect([...chunks[1]!.ids]).toEqual([0, ...Buffer.from("cdef"), 2]);
});

test("text before the first token, after the last and between tokens is in a piece", () => {
  const encoded = { ids: Int32Array.of(1, 2, 3), starts: Uint32Array.of(2, 5, 8) };
  const chunks = chunkDocument({ text: "__aa_bb_cc__", encoded, maxTokens: 3, overlap: 0, ...SPECIALS });
  expect(chunks.map((chunk) => chunk.text)).toEqual(["__aa_", "bb_", "cc__"]);
});

test.each([
  ["equal to the room", 8, 6],
  ["beyond the room", 8, 20],
  ["negative", 8, -1],
  ["with no room at all", 2, 0],
])("an overlap %s is refused", (_, maxTokens, overlap) => {
  const run = (): unknown => chunkDocument({ ...perCharacter("abc"), maxTokens, overlap, ...SPECIALS });
  expect(run).toThrow(expect.objectContaining({ code: "bad_usage", cure: expect.stringContaining("--overlap") }));
});
