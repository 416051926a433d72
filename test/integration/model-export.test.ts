/**
 * Exported graphs against PyTorch: `models/export/torch_reference.py` made the reference files, text by
 * text and without padding. The graphs are made here, from the same weights, by the exporter.
 */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, test } from "vitest";
import { sessionParams } from "../../models/onnx/thread-embedder.ts";
import { openModel } from "../../models/registry/open-model.ts";
import { findModel } from "../../models/registry/registry.ts";
import { ModelSession } from "../../models/onnx/session.ts";
import { loadTokenizer } from "../../models/tokenizer/native.ts";
import { allocateShard, type ShardBuffers } from "../../src/core/batch.ts";
import { ALL_HEADS, type Precision } from "../../src/core/contracts.ts";
import { cli } from "../fixtures/cli.ts";
import { runExport } from "../fixtures/model-export.ts";

interface ReferenceRow {
  readonly id: string;
  readonly text: string;
  readonly ids: readonly number[];
  readonly dense: string;
  readonly sparse: Readonly<{ indices: readonly number[]; values: string }>;
  readonly colbert: Readonly<{ rows: readonly number[]; vectors: string }>;
}
interface Reference {
  readonly dim: number;
  readonly rows: readonly ReferenceRow[];
}

/** Least mean cosine of each head to PyTorch's float32. */
const GATES: Readonly<Record<Precision, number>> = { fp32: 0.99999, fp16: 0.9995, int8: 0.985 };
const PRECISIONS = Object.keys(GATES) as Precision[];
const EXPORT_MINI = ["models", "export", "generated:mini", "--precisions", "int8"];
const folder = mkdtempSync(join(tmpdir(), "embedfleet-test-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function floats(base64: string): Float32Array {
  return new Float32Array(Uint8Array.from(Buffer.from(base64, "base64")).buffer);
}

function cosine(a: Iterable<number>, b: ArrayLike<number>): number {
  let [dot, aa, bb] = [0, 0, 0];
  [...a].forEach((value, i) => {
    dot += value * b[i]!;
    aa += value * value;
    bb += b[i]! * b[i]!;
  });
  return dot / Math.sqrt(aa * bb);
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function referencePath(model: string): string {
  return fileURLToPath(new URL(`../fixtures/reference/${model}.json`, import.meta.url));
}

function referenceOf(model: string): Reference {
  return JSON.parse(readFileSync(referencePath(model), "utf8"));
}

/** What the session answers for all rows, in one padded batch or one after the other. */
async function embed(session: ModelSession, reference: Reference, isBatched: boolean): Promise<ShardBuffers> {
  const { rows, dim } = reference;
  const shard = allocateShard({ lengths: rows.map(({ ids }) => ids.length), dim, heads: ALL_HEADS });
  shard.ids.set(rows.flatMap(({ ids }) => ids));
  const refs = rows.map((_, row) => ({ shard, row }));
  for (const batch of isBatched ? [refs] : refs.map((ref) => [ref])) await session.run(batch);
  return shard;
}

/** Cosines of one row's answer to the reference, by head; null where the reference has nothing to compare. */
function cosines(shard: ShardBuffers, row: number, wanted: ReferenceRow): Record<string, number | null> {
  const { dim, offsets, sparseIndices, sparseValues, sparseCounts, dense, colbert } = shard;
  const start = offsets[row]!;
  const found = new Map<number, number>();
  for (let i = start; i < start + sparseCounts![row]!; i++) found.set(sparseIndices![i]!, sparseValues![i]!);
  const golden = new Map(wanted.sparse.indices.map((id, i) => [id, floats(wanted.sparse.values)[i]!]));
  const ids = [...new Set([...found.keys(), ...golden.keys()])];
  const weights = (of: Map<number, number>): number[] => ids.map((id) => of.get(id) ?? 0);
  const vectors = wanted.colbert.rows.flatMap((vector) => {
    const at = (start - row + vector) * dim;
    return [...colbert!.subarray(at, at + dim)];
  });
  return {
    dense: cosine(dense!.subarray(row * dim, (row + 1) * dim), floats(wanted.dense)),
    sparse: golden.size === 0 ? null : cosine(weights(found), weights(golden)),
    colbert: cosine(vectors, floats(wanted.colbert.vectors)),
  };
}

function meanCosines(shard: ShardBuffers, { rows }: Reference): Record<string, number> {
  const all = rows.map((row, index) => cosines(shard, index, row));
  return Object.fromEntries(
    ALL_HEADS.map((head) => [head, mean(all.map((each) => each[head]!).filter((value) => value !== null))]),
  );
}

describe.each(["mini", "tiny"])("%s", (name) => {
  const reference = referenceOf(name);
  const path = join(folder, name);
  const exported = runExport("graph", `generated:${name}`, "--out", path);

  test("is written, and its vectors can tell texts apart", async () => {
    expect(exported.status, exported.output).toBe(0);
    const [first, second] = reference.rows.map(({ dense }) => floats(dense));
    expect(cosine(first!, second!)).toBeLessThan(0.98);
    expect(reference.rows.filter(({ sparse }) => sparse.indices.length > 0).length).toBeGreaterThan(20);
  });

  test("its tokenizer gives the ids that the reference was made with", async () => {
    const tokenizer = await loadTokenizer(join(path, "tokenizer.json"));
    const encoded = await tokenizer.encode({ texts: reference.rows.map(({ text }) => text) });
    encoded.forEach(({ ids }, i) => {
      expect([...tokenizer.prefixIds, ...ids, ...tokenizer.suffixIds]).toEqual(reference.rows[i]!.ids);
    });
  });

  test.each(PRECISIONS)("%s is as near to PyTorch as promised, batched and alone", async (precision) => {
    const model = await openModel(findModel(path, { modelsFolder: folder }), { precision });
    const session = await ModelSession.open(sessionParams({ model, threads: 2 }));
    const batched = await embed(session, reference, true);
    for (const [head, value] of Object.entries(meanCosines(batched, reference)))
      expect(value, `${precision} ${head}`).toBeGreaterThanOrEqual(GATES[precision]);
    const alone = { ...reference, rows: reference.rows.slice(0, 4) };
    const single = await embed(session, alone, false);
    alone.rows.forEach((_, row) => {
      const span = [row * reference.dim, (row + 1) * reference.dim] as const;
      expect(cosine(single.dense!.subarray(...span), batched.dense!.subarray(...span))).toBeGreaterThan(0.99999);
    });
  });
});

test("the command writes a folder that the fleet takes, and refuses what it cannot export", async () => {
  const into = join(folder, "by-command");
  const made = await cli([...EXPORT_MINI, "--into", into]);
  expect(made, made.stderr).toMatchObject({ code: 0 });
  expect(made.stdout).toContain("int8 keeps in float32: *.attention.value, *.attention.output");
  expect(made.stdout).toContain(`use it with --model ${into}`);
  const model = await openModel(findModel(into, { modelsFolder: folder }), { precision: "auto" });
  expect(model.precision).toBe("int8");

  const unknown = await cli(["models", "export", "generated:huge", "--into", join(folder, "no")]);
  expect(unknown.code).toBe(1);
  expect(unknown.stderr).toContain("there is no generated:huge");
  expect(unknown.stderr).toContain("generated:tiny");
  const misspelt = await cli([...EXPORT_MINI, "--into", join(folder, "no"), "--keep-float", "*.ffn.dwon"]);
  expect(misspelt).toMatchObject({ code: 1, stderr: expect.stringContaining("no layer is named '*.ffn.dwon'") });
});

test("models check holds what was exported to PyTorch; mini in int8 needs the layers that its export keeps", async () => {
  const checked = (path: string, ...flags: string[]) =>
    cli(["models", "check", path, "--reference", referencePath("mini"), "--threads", "2", ...flags]);
  const all = await checked(join(folder, "mini"));
  expect(all, all.stdout).toMatchObject({ code: 0, stderr: "" });
  expect(all.stdout.match(/^(fp32|fp16|int8) on cpu/gm)).toHaveLength(3);
  const nothingKept = join(folder, "nothing-kept");
  await cli([...EXPORT_MINI, "--into", nothingKept, "--keep-float", "none"]);
  expect((await checked(nothingKept)).stderr).toMatch(/fails the check: int8 colbert\n {2}.*--keep-float/);
});
