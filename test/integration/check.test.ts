/** `models check`, on a folder whose reference PyTorch computed (test/fixtures/hub-folder). */
import { cp, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { ThreadEmbedder } from "../../models/onnx/thread-embedder.ts";
import { loadTokenizer } from "../../models/tokenizer/native.ts";
import { checkPublishedPairs } from "../../src/results/published-pairs.ts";
import { cli } from "../fixtures/cli.ts";
import { openMini } from "../fixtures/mini.ts";
import { tempFolder } from "../fixtures/temp-folder.ts";

const FOLDER = fileURLToPath(new URL("../fixtures/hub-folder", import.meta.url));

interface GoldenRow {
  readonly ids: number[];
  readonly mean: number[];
  readonly sparse: number[];
  readonly colbert: number[][];
}

function packed(values: readonly number[]): string {
  return Buffer.from(Float32Array.from(values).buffer).toString("base64");
}

/** The golden file in the form that an export writes. */
function referenceRow({ ids, mean, sparse, colbert }: GoldenRow, index: number): object {
  const weights = new Map<number, number>();
  ids.forEach((id, i) => id > 2 && sparse[i]! > 0 && weights.set(id, Math.max(sparse[i]!, weights.get(id) ?? 0)));
  const indices = [...weights.keys()].toSorted((a, b) => a - b);
  return {
    id: `row-${index}`,
    text: ids
      .slice(1, -1)
      .map((id) => `w${id}`)
      .join(" "),
    ids,
    dense: packed(mean),
    sparse: { indices, values: packed(indices.map((id) => weights.get(id)!)) },
    colbert: { rows: [0, colbert.length - 1], vectors: packed([colbert[0]!, colbert.at(-1)!].flat()) },
  };
}

async function folderWithReference(): Promise<string> {
  const folder = await tempFolder();
  await cp(FOLDER, folder, { recursive: true });
  // The golden rows were computed without a prompt.
  await rm(join(folder, "config_sentence_transformers.json"));
  const { rows } = JSON.parse(await readFile(join(FOLDER, "golden.json"), "utf8")) as { rows: GoldenRow[] };
  const reference = { madeBy: "PyTorch", dim: 32, rows: rows.map(referenceRow) };
  await writeFile(join(folder, "reference.json"), JSON.stringify(reference));
  return folder;
}

test("a sound model passes, with every head's figures", async () => {
  const done = await cli(["models", "check", await folderWithReference(), "--json"]);
  expect(done).toMatchObject({ code: 0, stderr: "" });
  const { precisions } = JSON.parse(done.stdout) as { precisions: { heads: Record<string, number>[] }[] };
  expect(precisions[0]!.heads.map(({ head }) => head)).toEqual(["dense", "sparse", "colbert"]);
  for (const head of precisions[0]!.heads) {
    expect(head).toMatchObject({ passes: true });
    expect(head["cosineMean"]).toBeGreaterThan(0.99999);
    expect(head["batchedCosineMin"]).toBeGreaterThan(0.99999);
    expect(head["maxAbsError"]).toBeLessThan(1e-4);
  }
});

test("one whose pooling is another fails, and says which head", async () => {
  const folder = await folderWithReference();
  await writeFile(join(folder, "1_Pooling/config.json"), '{"pooling_mode_cls_token":true}');
  const done = await cli(["models", "check", folder]);
  expect(done.code).toBe(1);
  expect(done.stdout).toMatch(/dense .* below 0\.99999\n/);
  expect(done.stderr).toMatch(/fails the check: fp32 dense\n/);
});

test("another tokenizer than the reference's is refused", async () => {
  const folder = await folderWithReference();
  const path = join(folder, "tokenizer.json");
  await writeFile(
    path,
    (await readFile(path, "utf8")).replace('"w20": 20', '"w20": 21').replace('"w21": 21', '"w21": 20'),
  );
  const done = await cli(["models", "check", folder]);
  expect(done.code).toBe(1);
  expect(done.stderr).toMatch(/ids for the text row-1 differ from the reference's/);
});

test("without a reference, it says what to pass", async () => {
  const done = await cli(["models", "check", "mini"]);
  expect(done.code).toBe(2);
  expect(done.stderr).toMatch(/has no .*reference\.json/);
});

test("the published pairs tell BGE-M3 from a model of its shape", async () => {
  const model = await openMini();
  const embedder = await ThreadEmbedder.open({ model, threads: 1 });
  const tokenizer = await loadTokenizer(model.tokenizerPath);
  const scores = await checkPublishedPairs({ model: model.ref, precision: "fp32", tokenizer, embedder });
  await embedder.close();
  expect(scores.map(({ score }) => score)).toEqual([
    "colbert",
    "sparse",
    "dense",
    "sparse+dense",
    "colbert+sparse+dense",
  ]);
  for (const { found } of scores) expect(found.length).toBe(4);
  const [colbert, sparse, dense, , all] = scores.map(({ found }) => found);
  expect(all![0]).toBeCloseTo(0.4 * dense![0]! + 0.2 * sparse![0]! + 0.4 * colbert![0]!, 5);
  expect(scores.every(({ passes }) => !passes)).toBe(true);
});
