/** What `export` writes, read by the systems it is for or by other libraries of their formats. */
import { spawnSync } from "node:child_process";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PGlite } from "@electric-sql/pglite";
import { vector } from "@electric-sql/pglite-pgvector";
import { parquetSchema, parquetMetadata, parquetReadObjects } from "hyparquet";
import pl from "nodejs-polars";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { openStore } from "../../src/adapters/open-store.ts";
import type { ResultRows } from "../../src/arrow/results.ts";
import { dot, sparseDot } from "../../src/core/scoring.ts";
import { uuidV5 } from "../../src/results/row-uuid.ts";
import type { ObjectStore } from "../../src/core/ports.ts";
import { exportRun, type ExportReport } from "../../src/results/export/export-run.ts";
import type { ExportFormatName } from "../../src/results/export/format.ts";
import { readSealed, sealedRows } from "../../src/run/sealed-rows.ts";
import { cli } from "../fixtures/cli.ts";

/** Everything that COPY, JSON and Parquet have to escape or encode. */
const AWKWARD = [
  { id: "plain", text: "one lamp on the island and one lamp on the shore" },
  { id: "tab\tand\\back", text: "line one\nline two\r\n\ttabbed \\N \\. 'quoted' \"twice\" {1:2}" },
  { id: "灯塔 🏮", text: "岩石岛上的灯塔看守人每天傍晚擦拭灯具，并把天气写进一本皮面的本子里 🏮🏮" },
  { id: "short", text: "." },
];
/** Kept with `--keep`: a field that not every document has. */
const TITLE = 'a "title"\twith \\N';
const LONG = Array.from({ length: 30 }, (_, i) => ({
  id: `n${i}`,
  text: `document number ${i} about copper lanterns`,
}));

let folder = "";
let store: ObjectStore;
let rows: ResultRows;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "embedfleet-export-"));
  const corpus = join(folder, "corpus.jsonl");
  await writeFile(
    corpus,
    [...AWKWARD, ...LONG]
      .map((document, i) => (i % 2 === 0 ? { ...document, title: TITLE } : document))
      .map((document) => `${JSON.stringify(document)}\n`)
      .join(""),
  );
  const out = join(folder, "out");
  const args = ["--run", "r", "--keep-text", "--keep", "title", "--max-tokens", "16", "--log-level", "silent"];
  const done = await cli(["run", corpus, "--out", out, ...args]);
  expect(done.code, done.stderr).toBe(0);
  store = await openStore(out);
  const manifest = await readSealed(store, "r");
  expect(manifest.files).toHaveLength(1);
  for await (const shard of sealedRows(store, manifest)) rows = shard.rows;
  expect(new Set(rows.kept[0]!.values)).toEqual(new Set([TITLE, null]));
  expect(rows.ids.length).toBeGreaterThan(AWKWARD.length + LONG.length);
});
afterAll(async () => {
  await store.close();
  await rm(folder, { recursive: true, force: true });
});

async function exportAs(
  format: ExportFormatName,
  name: string = format,
): Promise<{ path: string; report: ExportReport }> {
  const path = join(folder, name);
  const dest = await openStore(path);
  const report = await exportRun({ store, run: "r", format, dest });
  await dest.close();
  expect(report.rows).toBe(rows.ids.length);
  return { path, report };
}

async function onlyFile(path: string): Promise<string> {
  const names = await readdir(path);
  expect(names).toHaveLength(1);
  return join(path, names[0]!);
}

function denseOf(row: number): Float32Array {
  return rows.dense!.subarray(row * rows.dim, (row + 1) * rows.dim);
}

function sparseOf(row: number): { indices: number[]; values: number[] } {
  const { offsets, indices, values } = rows.sparse!;
  return {
    indices: [...indices.subarray(offsets[row], offsets[row + 1])],
    values: [...values.subarray(offsets[row], offsets[row + 1])],
  };
}

function colbertOf(row: number): number[][] {
  const { offsets, values } = rows.colbert!;
  const vectors: number[][] = [];
  for (let i = offsets[row]!; i < offsets[row + 1]!; i++)
    vectors.push([...values.subarray(i * rows.dim, (i + 1) * rows.dim)]);
  return vectors;
}

function titleOf(row: number): string | null {
  return rows.kept.find(({ name }) => name === "title")!.values[row]!;
}

/** Rounds what was read from text back to float32, as every target does. */
function fround(values: readonly number[]): number[] {
  return values.map(Math.fround);
}

interface JsonRow {
  readonly id: string;
  readonly chunk: number;
  readonly text: string;
  readonly title: string | null;
  readonly dense: number[];
  readonly sparse: { readonly indices: number[]; readonly values: number[] };
  readonly colbert: number[][];
}

/** Every row, in order, with exactly the vectors of the result file. */
function expectSame(found: readonly JsonRow[]): void {
  expect(found.map(({ id }) => id)).toEqual(rows.ids);
  found.forEach((each, row) => {
    expect(each).toMatchObject({ chunk: rows.chunks[row], text: rows.texts![row], title: titleOf(row) });
    expect(fround(each.dense)).toEqual([...denseOf(row)]);
    expect({ ...each.sparse, values: fround(each.sparse.values) }).toEqual(sparseOf(row));
    expect(each.colbert.map(fround)).toEqual(colbertOf(row));
  });
}

test("JSON lines have every row, bit for bit", async () => {
  const { path } = await exportAs("jsonl");
  const text = await readFile(await onlyFile(join(path, "data")), "utf8");
  expectSame(
    text
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line)),
  );
});

test("hyparquet and Polars read the Parquet file, bit for bit", async () => {
  const { path } = await exportAs("parquet");
  const file = await onlyFile(join(path, "data"));
  const bytes = await readFile(file);
  const buffer = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length);
  expectSame((await parquetReadObjects({ file: buffer })) as JsonRow[]);
  const table = pl.readParquet(file);
  expect(table.columns).toEqual([
    "id",
    "chunk",
    "char_start",
    "char_end",
    "n_tokens",
    "text_hash",
    "dense",
    "sparse",
    "colbert",
    "text",
    "title",
  ]);
  expect(table.getColumn("chunk").dtype.equals(pl.UInt32)).toBe(true);
  const records = table.drop("text_hash").toRecords() as unknown as JsonRow[];
  expect(records.map(({ id }) => id)).toEqual(rows.ids);
  expect([...records[1]!.dense]).toEqual([...denseOf(1)]);
  expect([...records[1]!.sparse.indices]).toEqual(sparseOf(1).indices);
});

test("Milvus' file has its types: one key, signed integers, struct<indices: list<uint32>, values: list<float>>", async () => {
  const { path } = await exportAs("milvus");
  const file = await onlyFile(join(path, "data"));
  const bytes = await readFile(file);
  const buffer = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length);
  const { children } = parquetSchema(parquetMetadata(buffer));
  const typeOf = (name: string): unknown => children.find(({ element }) => element.name === name)!.element.type;
  expect(["pk", "id", "text"].map(typeOf)).toEqual(["BYTE_ARRAY", "BYTE_ARRAY", "BYTE_ARRAY"]);
  expect(["chunk", "char_start", "char_end", "n_tokens"].map(typeOf)).toEqual(["INT64", "INT64", "INT64", "INT64"]);
  const table = pl.readParquet(file);
  expect(String(table.getColumn("sparse").dtype)).toMatch(
    /"indices", DataType\(List\(DataType\(UInt32\)\)\).*"values", DataType\(List\(DataType\(Float32\)\)\)/,
  );
  expect(String(table.getColumn("dense").dtype)).toBe("DataType(List(DataType(Float32)))");
  expect(table.getColumn("pk").nUnique()).toBe(rows.ids.length);
});

test("NumPy reads its files: dense and ColBERT matrices and the parts of a CSR matrix", async () => {
  const { path } = await exportAs("numpy");
  const program = `
import glob, json, sys, numpy
load = lambda name: numpy.load(glob.glob(sys.argv[1] + "/" + name)[0])
dense, offsets, colbert = load("dense/*.npy"), load("colbert/*.offsets.npy"), load("colbert/*-0000.npy")
indptr, indices, data = load("sparse/*.indptr.npy"), load("sparse/*.indices.npy"), load("sparse/*.data.npy")
print(json.dumps([
  {"dense": d.tolist(), "sparse": {"indices": indices[a:b].tolist(), "values": data[a:b].tolist()}, "colbert": colbert[i:j].tolist()}
  for d, a, b, i, j in zip(dense, indptr[:-1], indptr[1:], offsets[:-1], offsets[1:])]))
`;
  const python = spawnSync("/usr/bin/python3", ["-c", program, path], { encoding: "utf8", maxBuffer: 1 << 28 });
  expect(python.stderr).toBe("");
  const ids = (await readFile(await onlyFile(join(path, "ids")), "utf8")).trimEnd().split("\n");
  const vectors: object[] = JSON.parse(python.stdout);
  expectSame(vectors.map((each, row) => ({ ...JSON.parse(ids[row]!), ...each })));
});

describe("pgvector", () => {
  let pg: PGlite;
  beforeAll(async () => {
    pg = await PGlite.create({ extensions: { vector } });
  });
  afterAll(() => pg.close());

  test("PostgreSQL loads the table, and ranks as we do", async () => {
    const { path } = await exportAs("pgvector");
    await pg.exec(await readFile(join(path, "schema.sql"), "utf8"));
    const copy = await readFile(await onlyFile(join(path, "data")));
    await pg.query("COPY embeddings FROM '/dev/blob'", [], { blob: new Blob([copy]) });
    await pg.exec(await readFile(join(path, "index.sql"), "utf8"));
    const { rows: found } = await pg.query<{ id: string; chunk: number; text: string; title: string; dense: string }>(
      "SELECT * FROM embeddings",
    );
    expect(found).toHaveLength(rows.ids.length);
    for (const each of found) {
      const row = rows.ids.findIndex((id, i) => id === each.id && rows.chunks[i] === each.chunk);
      expect(each.text).toBe(rows.texts![row]);
      expect(each.title).toBe(titleOf(row));
      expect(fround(JSON.parse(each.dense))).toEqual([...denseOf(row)]);
    }
    const query = rows.ids.indexOf("n7");
    const ranked = await pg.query<{ id: string; chunk: number; dense: number; sparse: number }>(
      `SELECT t.id, t.chunk, -(t.dense <#> q.dense) AS dense, -(t.sparse <#> q.sparse) AS sparse
       FROM embeddings t, embeddings q WHERE q.id = 'n7' AND q.chunk = $1`,
      [rows.chunks[query]],
    );
    expect(ranked.rows).toHaveLength(rows.ids.length);
    ranked.rows.forEach((each) => {
      const row = rows.ids.findIndex((id, i) => id === each.id && rows.chunks[i] === each.chunk);
      expect(each.dense).toBeCloseTo(dot(rows.dense!, query, rows.dense!, row, rows.dim), 5);
      expect(each.sparse).toBeCloseTo(sparseDot(rows.sparse!, query, rows.sparse!, row), 5);
    });
  });
});

test("Qdrant's upsert bodies have named vectors and ids that stay the same", async () => {
  const { path } = await exportAs("qdrant");
  const { points } = JSON.parse(await readFile(await onlyFile(join(path, "points")), "utf8"));
  expectSame(points.map(({ vector, payload }: { vector: object; payload: object }) => ({ ...payload, ...vector })));
  const ids: string[] = points.map(({ id }: { id: string }) => id);
  expect(new Set(ids).size).toBe(rows.ids.length);
  for (const id of ids) expect(id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  expect(JSON.parse(await readFile(join(path, "collection.json"), "utf8"))).toMatchObject({
    vectors: { dense: { size: 256, distance: "Dot" }, colbert: { multivector_config: { comparator: "max_sim" } } },
    sparse_vectors: { sparse: {} },
  });
});

test("a version 5 UUID is the one that Python makes", () => {
  const dns = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";
  expect(uuidV5(dns, "www.example.com")).toBe("2ed6657d-e927-568b-95e1-2665a8aea6a2");
});

test("OpenSearch's bulk lines are pairs of an action and a document", async () => {
  const { path } = await exportAs("opensearch");
  const text = await readFile(await onlyFile(join(path, "bulk")), "utf8");
  expect(text.endsWith("\n")).toBe(true);
  const lines = text
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));
  expect(lines).toHaveLength(2 * rows.ids.length);
  for (let row = 0; row < rows.ids.length; row++) {
    expect(Object.keys(lines[2 * row].index)).toEqual(["_id"]);
    const { sparse, ...document } = lines[2 * row + 1];
    const { indices, values } = sparseOf(row);
    expect(Object.keys(sparse)).toEqual(indices.map(String));
    expect(fround(Object.values(sparse))).toEqual(values);
    expect(document).toMatchObject({ id: rows.ids[row], chunk: rows.chunks[row], text: rows.texts![row] });
  }
});

describe("a folder", () => {
  test("that holds half an export is completed to the same bytes, and a whole one is left alone", async () => {
    const { path, report } = await exportAs("jsonl", "twice");
    const file = await onlyFile(join(path, "data"));
    const before = await readFile(file);
    await rm(join(path, "_files.json"));
    await rm(file);
    expect((await exportAs("jsonl", "twice")).report).toEqual(report);
    expect((await readFile(file)).equals(before)).toBe(true);
    await rm(file);
    expect((await exportAs("jsonl", "twice")).report).toEqual(report);
    expect(await readdir(join(path, "data"))).toEqual([]);
  });

  test("takes one export only", async () => {
    await exportAs("jsonl", "one");
    await expect(exportAs("qdrant", "one")).rejects.toThrow(
      "holds an export of run r as jsonl with dense, sparse, colbert",
    );
  });
});

test("heads that the target or the run does not have are refused with what there is", async () => {
  const to = (format: string, heads: string): ReturnType<typeof cli> =>
    cli(["export", join(folder, "out"), "--to", format, "--dest", join(folder, "never"), "--heads", heads]);
  const target = await to("milvus", "dense,colbert");
  expect(target.code).toBe(2);
  expect(target.stderr).toContain("milvus takes only dense and sparse vectors");
  const done = await cli([
    "export",
    join(folder, "out"),
    "r",
    "--to",
    "numpy",
    "--dest",
    join(folder, "d"),
    "--heads",
    "dense",
    "--json",
  ]);
  expect(JSON.parse(done.stdout)).toMatchObject({ run: "r", format: "numpy", heads: ["dense"], rows: rows.ids.length });
  expect((await readdir(join(folder, "d"))).filter((name) => !name.startsWith(".")).toSorted()).toEqual([
    "_export.json",
    "_files.json",
    "dense",
    "ids",
  ]);
});
