import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { AutoTokenizer, env } from "@huggingface/transformers";
import { Tokenizer as NativeTokenizer } from "tokenizers";
import { beforeAll, describe, expect, test } from "vitest";
import { loadTokenizer } from "../../models/tokenizer/native.ts";
import type { Encoded, Tokenizer } from "../../src/core/ports.ts";
import { tempFolder } from "../fixtures/temp-folder.ts";

const MINI = fileURLToPath(new URL("../../models/mini/tokenizer.json", import.meta.url));
const CORPUS = fileURLToPath(new URL("../fixtures/corpus/multilingual.jsonl", import.meta.url));

const TEXTS = readFileSync(CORPUS, "utf8")
  .trim()
  .split("\n")
  .map((line) => (JSON.parse(line) as { text: string }).text);
const ODD_TEXTS = [
  "",
  " ",
  "a",
  " two  spaces\nand\tlines ",
  "😀😀 x",
  "e\u0301",
  "ﷺ",
  "<s> and <mask> </s>",
  "x\u200by",
  "𝕏𝕐 z",
  "Ⅷ ½ ﬁ",
];

let tokenizer: Tokenizer;
beforeAll(async () => {
  tokenizer = await loadTokenizer(MINI);
});

async function encode(text: string, of = tokenizer): Promise<Encoded> {
  const [encoded] = await of.encode({ texts: [text], startsAbove: 0 });
  return encoded!;
}

describe("ids", () => {
  test("are those of the reference implementation, in every language", async () => {
    const folder = join(await tempFolder(), "mini");
    await mkdir(folder);
    await writeFile(join(folder, "tokenizer.json"), readFileSync(MINI));
    // transformers.js wants to know the class; our own loader needs the one file only.
    await writeFile(join(folder, "tokenizer_config.json"), JSON.stringify({ tokenizer_class: "XLMRobertaTokenizer" }));
    env.allowRemoteModels = false;
    env.localModelPath = dirname(folder);
    const reference = await AutoTokenizer.from_pretrained("mini");
    const texts = [...TEXTS, ...ODD_TEXTS];
    const encoded = await tokenizer.encode({ texts });
    const expected = texts.map((text) => reference.encode(text, { add_special_tokens: false }));
    expect(encoded.map(({ ids }) => [...ids])).toEqual(expected);
  });

  test("special tokens are found by asking the tokenizer", () => {
    expect(tokenizer).toMatchObject({ prefixIds: [0], suffixIds: [2], vocabSize: 20_000 });
  });

  test("are the same one by one and in a batch, with positions and without", async () => {
    const batch = await tokenizer.encode({ texts: TEXTS });
    for (const [i, text] of TEXTS.entries()) expect([...(await encode(text)).ids]).toEqual([...batch[i]!.ids]);
    expect(batch.every(({ starts }) => starts.length === 0)).toBe(true);
  });

  test("have positions in the texts that have more of them than was said", async () => {
    const texts = ["one", "one two three four five six seven", "one two ".repeat(40_000)];
    const encoded = await tokenizer.encode({ texts, startsAbove: 5 });
    expect(encoded.map(({ ids, starts }) => starts.length === ids.length)).toEqual([false, true, true]);
    expect(encoded[0]!.starts).toHaveLength(0);
  });

  test("limits and padding that the file sets are not applied: the length is the caller's business", async () => {
    const file = join(await tempFolder(), "tokenizer.json");
    const json = JSON.parse(readFileSync(MINI, "utf8")) as object;
    const truncation = { direction: "Right", max_length: 16, strategy: "LongestFirst", stride: 0 };
    const padding = {
      strategy: { Fixed: 64 },
      direction: "Right",
      pad_to_multiple_of: null,
      pad_id: 1,
      pad_type_id: 0,
      pad_token: "<pad>",
    };
    await writeFile(file, JSON.stringify({ ...json, truncation, padding }));
    const limited = await loadTokenizer(file);
    expect(limited).toMatchObject({ prefixIds: [0], suffixIds: [2] });
    for (const text of ["short", TEXTS[0]!])
      expect([...(await encode(text, limited)).ids]).toEqual([...(await encode(text)).ids]);
  });
});

describe("positions", () => {
  test.each([
    ["plain", "the river", [0, 4]],
    ["after an astral character", "😀 the river", [0, 0, 3, 7]],
    ["among astral characters", "the 😀 𝕏 the", [0, 4, 4, 7, 10]],
  ])("count UTF-16 units: %s", async (_, text, expected) => {
    const { starts, ids } = await encode(text);
    expect(ids.length).toBe(starts.length);
    expect([...new Set(expected)].every((start) => starts.includes(start))).toBe(true);
    expect([...starts].every((start) => !/^[\uDC00-\uDFFF]/.test(text.slice(start)))).toBe(true);
  });

  test("ascend and stay inside the text", async () => {
    for (const text of [...TEXTS, ...ODD_TEXTS]) {
      const { starts } = await encode(text);
      expect([...starts]).toEqual([...starts].sort((a, b) => a - b));
      expect(starts.at(-1) ?? 0).toBeLessThanOrEqual(text.length);
    }
  });
});

describe("texts longer than the library is given at once", () => {
  // Runs of white space of every kind; the longest come most often, so that cuts meet them.
  const long = Array.from(
    { length: 5000 },
    (_, i) => TEXTS[i % TEXTS.length]! + [" \n\n ", "\n", "      ", "\t\t", " \u3000 "][i % 5]!,
  )
    .join("")
    .replaceAll(" ", "   ")
    .slice(0, 700_000);

  type TokenizerJson = Record<"normalizer" | "pre_tokenizer", object>;
  const metaspace = { type: "Metaspace", replacement: "▁", prepend_scheme: "always", split: true };
  const collapse = { type: "Replace", pattern: { Regex: " {2,}" }, content: " " };

  test.each<[string, (json: TokenizerJson) => Partial<TokenizerJson>]>([
    ["words split at white space", () => ({})],
    ["Metaspace alone", () => ({ pre_tokenizer: metaspace })],
    [
      "runs of spaces made one",
      ({ normalizer }) => ({
        pre_tokenizer: metaspace,
        normalizer: { type: "Sequence", normalizers: [normalizer, collapse] },
      }),
    ],
  ])("have the ids and positions of the whole: %s", async (_, change) => {
    const file = join(await tempFolder(), "tokenizer.json");
    const json = JSON.parse(readFileSync(MINI, "utf8")) as TokenizerJson;
    await writeFile(file, JSON.stringify({ ...json, ...change(json) }));
    const whole = await NativeTokenizer.fromFile(file).encode(long, null, { addSpecialTokens: false });
    const { ids, starts } = await encode(long, await loadTokenizer(file));
    // Bytes: comparing so many numbers one by one takes seconds.
    expect(Buffer.from(ids.buffer).equals(Buffer.from(Int32Array.from(whole.getIds()).buffer))).toBe(true);
    expect(
      Buffer.from(starts.buffer).equals(Buffer.from(Uint32Array.from(whole.getOffsets(), (span) => span[0]!).buffer)),
    ).toBe(true);
  });

  test("are cut between characters where there is no white space", async () => {
    const text = `${"日本語".repeat(100_000)}😀`;
    const { starts, ids } = await encode(text);
    expect(ids.length).toBeGreaterThan(200_000);
    expect(starts.every((start) => !/[\uDC00-\uDFFF]/.test(text[start]!))).toBe(true);
  });
});

describe("what cannot be loaded", () => {
  test("a file that is missing, damaged or no tokenizer says so, and what to do", async () => {
    const folder = await tempFolder();
    const damaged = join(folder, "damaged.json");
    await writeFile(damaged, readFileSync(MINI).subarray(0, 5000));
    const other = join(folder, "other.json");
    await writeFile(other, '{"version":"1.0"}');
    for (const file of [join(folder, "none.json"), damaged, other, folder]) {
      await expect(loadTokenizer(file)).rejects.toMatchObject({
        code: "model_invalid",
        message: expect.stringContaining(file),
        cure: expect.any(String),
      });
    }
  });

  test("a platform without a native build is named", async () => {
    const script = `
      Object.defineProperty(process, "arch", { value: "mips" });
      const { loadTokenizer } = await import(process.argv[1]);
      await loadTokenizer(process.argv[2]).catch(({ code, message, cure }) => console.log(JSON.stringify({ code, message, cure })));`;
    const built = new URL("../../dist/models/tokenizer/native.js", import.meta.url).href;
    const { stdout } = await promisify(execFile)(process.execPath, ["--input-type=module", "-e", script, built, MINI]);
    expect(JSON.parse(stdout)).toMatchObject({
      code: "model_invalid",
      message: expect.stringContaining(`${process.platform} mips`),
      cure: expect.stringContaining("arm64"),
    });
  });
});
