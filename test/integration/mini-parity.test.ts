/** The embedded model against an independent reference: `models/mini/reference.py` made the golden file. */
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { sessionParams } from "../../models/onnx/thread-embedder.ts";
import { ModelSession } from "../../models/onnx/session.ts";
import { loadTokenizer } from "../../models/tokenizer/native.ts";
import { allocateShard, type ShardBuffers } from "../../src/core/batch.ts";
import { openMini } from "../fixtures/mini.ts";
import { ALL_HEADS } from "../../src/core/contracts.ts";

interface GoldenCase {
  readonly name: string;
  readonly text?: string | null;
  readonly ids: readonly number[];
  readonly dense: readonly number[];
  readonly tokenWeights: readonly number[];
  readonly colbert: readonly { readonly row: number; readonly vector: readonly number[] }[];
}

const TOLERANCE = 1e-5;
const root = fileURLToPath(new URL("../..", import.meta.url));
const cases: GoldenCase[] = JSON.parse(readFileSync(`${root}/models/mini/golden.json`, "utf8")).cases;
const model = await openMini();
const { nonLexicalIds } = model.manifest.heads.sparse!;
const session = await ModelSession.open(sessionParams({ model, threads: 1 }));

function shardOf(wanted: readonly GoldenCase[]): ShardBuffers {
  const shard = allocateShard({
    lengths: wanted.map(({ ids }) => ids.length),
    dim: model.manifest.dim,
    heads: ALL_HEADS,
  });
  shard.ids.set(wanted.flatMap(({ ids }) => ids));
  return shard;
}

/** FlagEmbedding's rule: the largest weight of each distinct id, special ids left out. */
function sparseOf({ ids, tokenWeights }: GoldenCase): Map<number, number> {
  const weights = new Map<number, number>();
  ids.forEach((id, i) => {
    const weight = tokenWeights[i]!;
    if (weight > 0 && !nonLexicalIds.includes(id)) weights.set(id, Math.max(weight, weights.get(id) ?? 0));
  });
  return weights;
}

function worst(found: ArrayLike<number>, wanted: readonly number[]): number {
  return wanted.reduce((max, value, i) => Math.max(max, Math.abs(value - found[i]!)), 0);
}

function expectRow(shard: ShardBuffers, row: number, golden: GoldenCase): void {
  const { dim, offsets } = shard;
  expect(worst(shard.dense!.subarray(row * dim, (row + 1) * dim), golden.dense)).toBeLessThan(TOLERANCE);
  for (const { row: vector, vector: wanted } of golden.colbert) {
    const at = (offsets[row]! - row + vector) * dim;
    expect(worst(shard.colbert!.subarray(at, at + dim), wanted)).toBeLessThan(TOLERANCE);
  }
  const sparse = [...sparseOf(golden)].toSorted(([a], [b]) => a - b);
  const start = offsets[row]!;
  expect([...shard.sparseIndices!.subarray(start, start + shard.sparseCounts![row]!)]).toEqual(
    sparse.map(([id]) => id),
  );
  expect(
    worst(
      shard.sparseValues!.subarray(start),
      sparse.map(([, weight]) => weight),
    ),
  ).toBeLessThan(TOLERANCE);
}

test.each(cases)("$name alone equals the reference", async (golden) => {
  const shard = shardOf([golden]);
  await session.run([{ shard, row: 0 }]);
  expectRow(shard, 0, golden);
});

test("all together, padded, they equal the reference too", async () => {
  const shard = shardOf(cases);
  await session.run(cases.map((_, row) => ({ shard, row })));
  cases.forEach((golden, row) => expectRow(shard, row, golden));
});

test("the tokenizer gives the ids that the reference was made with", async () => {
  const tokenizer = await loadTokenizer(model.tokenizerPath);
  const withText = cases.filter((golden) => typeof golden.text === "string");
  expect(withText.length).toBeGreaterThan(0);
  const encoded = await tokenizer.encode({ texts: withText.map(({ text }) => text!) });
  encoded.forEach(({ ids }, i) => {
    expect([...tokenizer.prefixIds, ...ids, ...tokenizer.suffixIds]).toEqual(withText[i]!.ids);
  });
});

test.each(["build.py", "reference.py"])("%s --check: the committed files are what it makes", (script) => {
  const python = ["/usr/bin/python3", "python3"].find(
    (each) => spawnSync(each, ["-c", "import numpy, onnx"]).status === 0,
  );
  if (python === undefined)
    throw new Error("no Python with numpy and onnx: apt-get install python3-numpy python3-onnx");
  const done = spawnSync(python, [`${root}/models/mini/${script}`, "--check"], { encoding: "utf8" });
  expect(done.stderr + done.stdout).toBeTruthy();
  expect(done.status, done.stderr + done.stdout).toBe(0);
});
