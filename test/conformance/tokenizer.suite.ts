/** What every `Tokenizer` must do. */
import { beforeAll, describe, expect, test } from "vitest";
import type { Tokenizer } from "../../src/core/ports.ts";

/** @param texts Some that it can encode, one of them of several tokens. */
export function tokenizerSuite(name: string, open: () => Promise<Tokenizer>, texts: readonly string[]): void {
  describe(name, () => {
    let tokenizer: Tokenizer;
    beforeAll(async () => {
      tokenizer = await open();
    });

    test("each text has its ids, in order, all of them in the vocabulary", async () => {
      const together = await tokenizer.encode({ texts });
      expect(together).toHaveLength(texts.length);
      for (const [i, text] of texts.entries()) {
        const [alone] = await tokenizer.encode({ texts: [text] });
        expect([...together[i]!.ids]).toEqual([...alone!.ids]);
      }
      const around = [...tokenizer.prefixIds, ...tokenizer.suffixIds];
      for (const id of [...together.flatMap(({ ids }) => [...ids]), ...around]) {
        expect(id).toBeGreaterThanOrEqual(0);
        expect(id).toBeLessThan(tokenizer.vocabSize);
      }
      expect(Math.max(...together.map(({ ids }) => ids.length))).toBeGreaterThan(1);
    });

    test("nothing to encode gives nothing", async () => {
      expect(await tokenizer.encode({ texts: [] })).toEqual([]);
    });

    test("starts are for texts of more tokens than asked for, one a token, and change no id", async () => {
      const plain = await tokenizer.encode({ texts });
      for (const { starts } of plain) expect(starts).toHaveLength(0);
      const counts = plain.map(({ ids }) => ids.length).toSorted((a, b) => a - b);
      for (const startsAbove of [0, counts[Math.floor(counts.length / 2)]!, counts.at(-1)!]) {
        const encoded = await tokenizer.encode({ texts, startsAbove });
        for (const [i, { ids, starts }] of encoded.entries()) {
          expect([...ids]).toEqual([...plain[i]!.ids]);
          expect(starts).toHaveLength(ids.length > startsAbove ? ids.length : 0);
          for (const [token, start] of starts.entries()) {
            expect(start).toBeGreaterThanOrEqual(token === 0 ? 0 : starts[token - 1]!);
            expect(start).toBeLessThanOrEqual(texts[i]!.length);
          }
        }
      }
    });

    test("several may ask at once", async () => {
      const wanted = (await tokenizer.encode({ texts })).map(({ ids }) => [...ids]);
      const answers = await Promise.all([1, 2, 3].map(() => tokenizer.encode({ texts })));
      for (const answer of answers) expect(answer.map(({ ids }) => [...ids])).toEqual(wanted);
    });
  });
}
