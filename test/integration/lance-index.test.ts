/** A run and its deltas in LanceDB itself: what was put in is read back with LanceDB's own calls. */
import { cp, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type LanceTable, loadLance } from "../../src/results/lance-api.ts";
import { openStore } from "../../src/adapters/open-store.ts";
import type { ObjectStore } from "../../src/core/ports.ts";
import { rowUuid } from "../../src/results/row-uuid.ts";
import { readChain, readEffective } from "../../src/run/chain.ts";
import { readRun } from "../../src/run/read-plan.ts";
import { compactRun } from "../../src/run/compact.ts";
import { indexRun, type IndexReport } from "../../src/results/index-run.ts";
import { LanceIndex } from "../../src/results/lance-index.ts";
import { cli } from "../fixtures/cli.ts";

/** Enough for an index of the vectors to be made. */
const DOCUMENTS = 1100;
const ADDED = 11;
let folder = "";
let out = "";
let store: ObjectStore;

function textOf(i: number): string {
  return `document ${i} about ${["copper", "lantern", "glacier", "meadow"][i % 4]} number ${i % 97}`;
}

async function embed(
  run: string,
  documents: readonly { id: string; text: string; topic?: string }[],
  ...args: string[]
): Promise<void> {
  const corpus = join(folder, `${run}.jsonl`);
  await writeFile(corpus, documents.map((document) => `${JSON.stringify(document)}\n`).join(""));
  const common = [
    "--out",
    out,
    "--run",
    run,
    "--heads",
    "dense,sparse",
    "--keep-text",
    "--keep",
    "topic",
    "--log-level",
    "silent",
  ];
  const done = await cli(["run", corpus, ...common, ...args]);
  expect(done.code, done.stderr).toBe(0);
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "embedfleet-lance-"));
  out = join(folder, "out");
  const base = Array.from({ length: DOCUMENTS }, (_, i) => ({
    id: `d'${i}`,
    text: textOf(i),
    ...(i % 3 === 0 && { topic: `t${i % 7}` }),
  }));
  await embed("base", base);
  // One per cent changed, one per cent gone, one per cent new.
  const next = base
    .filter((_, i) => i % 100 !== 1)
    .map((document, i) => (i % 100 === 2 ? { ...document, text: `${document.text} changed` } : document));
  const added = Array.from({ length: ADDED }, (_, i) => ({ id: `new${i}`, text: `brand new ${textOf(i)}` }));
  await embed("night", [...next, ...added], "--since", "latest");
  store = await openStore(out);
});
afterAll(async () => {
  await store.close();
  await rm(folder, { recursive: true, force: true });
});

async function withIndex<T>(table: string, act: (index: LanceIndex) => Promise<T>): Promise<T> {
  const index = await LanceIndex.open({ url: `lancedb://${join(folder, "db")}`, table });
  try {
    return await act(index);
  } finally {
    await index.close();
  }
}

function put(run: string, table: string, fullText = false, from = store): Promise<IndexReport> {
  return withIndex(table, (index) => indexRun({ store: from, run, index, heads: ["dense", "sparse"], fullText }));
}

async function withTable<T>(name: string, act: (table: LanceTable) => Promise<T>): Promise<T> {
  const connection = await (await loadLance()).connect(join(folder, "db"));
  const table = await connection.openTable(name);
  try {
    return await act(table);
  } finally {
    table.close();
    connection.close();
  }
}

/** Every row of the table by its key: id, chunk, text and the exact vectors. */
function contentOf(table: string): Promise<Map<string, unknown>> {
  return withTable(table, async (opened) => {
    // oxlint-disable-next-line typescript/no-explicit-any -- LanceDB's own type of a row
    const rows: any[] = await opened.query().toArray();
    const entries = rows.map(({ key, id, chunk, text, topic, dense, sparse }) => {
      const vectors = [dense.toArray(), sparse.indices.toArray(), sparse.values.toArray()].map((each) => [...each]);
      return [key as string, { id, chunk, text, topic, vectors }] as const;
    });
    expect(new Set(rows.map(({ key }) => key)).size).toBe(rows.length);
    return new Map(entries);
  });
}

async function expected(run: string, from = store): Promise<Map<string, unknown>> {
  const rowsByKey = new Map<string, unknown>();
  for await (const { rows, kept } of readEffective(from, await readChain(from, run))) {
    for (const row of kept) {
      const [id, chunk] = [rows.ids[row]!, rows.chunks[row]!];
      const { offsets, indices, values } = rows.sparse!;
      const vectors = [
        [...rows.dense!.subarray(row * rows.dim, (row + 1) * rows.dim)],
        [...indices.subarray(offsets[row], offsets[row + 1])],
        [...values.subarray(offsets[row], offsets[row + 1])],
      ];
      rowsByKey.set(rowUuid(id, chunk), {
        id,
        chunk,
        text: rows.texts![row],
        topic: rows.kept[0]!.values[row],
        vectors,
      });
    }
  }
  return rowsByKey;
}

test("a full run, then what a delta changes, each once however often it is said", async () => {
  expect(await put("base", "nightly", true)).toEqual({
    run: "base",
    kind: "loaded",
    upserted: DOCUMENTS,
    removed: 0,
    rows: DOCUMENTS,
  });
  expect(await contentOf("nightly")).toEqual(await expected("base"));
  const indexes = await withTable("nightly", (table) => table.listIndices());
  expect(indexes.flatMap(({ columns }) => columns).toSorted()).toEqual(["dense", "key", "text"]);
  expect(await put("base", "nightly", true)).toMatchObject({ kind: "unchanged", upserted: 0, removed: 0 });

  const night = await put("night", "nightly");
  expect(night).toMatchObject({ kind: "updated", rows: DOCUMENTS });
  expect(night.upserted).toBeLessThan(DOCUMENTS / 20);
  const content = await contentOf("nightly");
  expect(content).toEqual(await expected("night"));
  expect(await put("night", "nightly")).toMatchObject({ kind: "unchanged", rows: DOCUMENTS });

  // The same as all of it put into an empty table at once, and the older run brings back the older rows.
  expect(await put("night", "fresh")).toMatchObject({ kind: "loaded", upserted: DOCUMENTS });
  expect(await contentOf("fresh")).toEqual(content);
  expect(await put("base", "nightly")).toMatchObject({ kind: "loaded", removed: ADDED });
  expect(await contentOf("nightly")).toEqual(await expected("base"));
});

test("a compacted run is indexed like the chain it was made of, kept fields too, and the next delta goes on from it", async () => {
  const own = join(folder, "compacted");
  await cp(out, own, { recursive: true });
  const from = await openStore(own);
  await put("night", "before-compact", false, from);
  await compactRun({ store: from, run: "night" });
  const rows = await expected("night");
  expect(await expected("night-full", from)).toEqual(rows);
  expect(await put("night-full", "compacted", false, from)).toMatchObject({ kind: "loaded", rows: DOCUMENTS });
  expect(await contentOf("compacted")).toEqual(rows);

  const later = Array.from({ length: DOCUMENTS }, (_, i) => ({ id: `d'${i}`, text: textOf(i), topic: "all" }));
  await embed("later", later.slice(0, 9), "--out", own, "--since", "latest", "--max-deletes", "100%");
  const changed = await put("later", "before-compact", false, from);
  expect(changed).toMatchObject({ kind: "updated", rows: 9 });
  expect(changed.upserted).toBeLessThanOrEqual(9);
  expect(await contentOf("before-compact")).toEqual(await expected("later", from));
  await from.close();
});

test("what was cut off is completed, and leaves nothing behind for another run", async () => {
  await put("base", "cut");
  const begin = (index: LanceIndex): Promise<void> =>
    index.runs().then(async (runs) => index.record({ ...runs.at(-1)!, run: "night", state: "begun" }));
  await withIndex("cut", begin);
  await withIndex("cut", async (index) => {
    // Some of the delta's rows had come in.
    for await (const { rows } of readEffective(store, (await readChain(store, "night")).slice(0, 1)))
      await index.upsert(rows, "night");
  });
  // The base again, while the delta is there in part: only a full load is sure to be right.
  expect(await put("base", "cut")).toMatchObject({ kind: "loaded", rows: DOCUMENTS });
  expect(await contentOf("cut")).toEqual(await expected("base"));
  await withIndex("cut", begin);
  expect(await put("night", "cut")).toMatchObject({ kind: "updated" });
  expect(await contentOf("cut")).toEqual(await expected("night"));
});

test("search reads through the index and finds what an exact scan finds", async () => {
  await put("night", "searched");
  const query = ["search", out, "brand new document 3 about meadow", "--top", "3", "--json", "--log-level", "silent"];
  const index = ["--index", `lancedb://${join(folder, "db")}`, "--table", "searched", "--text"];
  const exact = JSON.parse((await cli([...query, "--text"])).stdout);
  const found = await cli([...query, ...index]);
  expect(found.stderr).toBe("");
  expect(JSON.parse(found.stdout)[0]).toEqual(exact[0]);
  const other = await cli([...query, ...index, "--run", "base"]);
  expect(other.code).toBe(1);
  expect(other.stderr).toContain("holds run night and not base");
});

test("an index of other vectors is refused before anything is changed", async () => {
  await withIndex("other", (index) =>
    index.record({
      run: "r",
      state: "done",
      model: "bge-m3",
      modelSha256: "0".repeat(64),
      dim: 1024,
      heads: ["dense"],
    }),
  );
  const refused = put("base", "other");
  await expect(refused).rejects.toMatchObject({ code: "index_conflict", cure: expect.stringContaining("--table") });
  await expect(refused).rejects.toThrow(
    "holds vectors of 1024 dimensions of model bge-m3 (run r); run base has 256 dimensions of model mini",
  );
  await put("base", "heads");
  const fewer = withIndex("heads", (index) => indexRun({ store, run: "base", index, heads: [], fullText: false }));
  await expect(fewer).rejects.toThrow("holds dense,sparse vectors; dense are to be put in");
});

test("the same weights with another setup are refused; where a setup is not known, that is said", async () => {
  const { model, ...options } = (await readRun(store, "base")).options;
  expect(model.setupSha256).toMatch(/^[0-9a-f]{64}$/);
  const record = { state: "done", model: model.id, modelSha256: model.sha256, dim: model.dim } as const;
  const heads = options.heads.filter((head) => head !== "colbert");
  const said: unknown[] = [];
  const log = pino({ level: "warn" }, { write: (line: string) => void said.push(JSON.parse(line)) });
  const indexInto = (table: string): Promise<IndexReport> =>
    withIndex(table, (index) => indexRun({ store, run: "base", index, heads, fullText: false, log }));

  const [setupSha256, run] = ["0".repeat(64), "r"];
  await withIndex("setups", (index) => index.record({ ...record, run, heads, setupSha256 }));
  // One of an earlier version after it does not make it unknown.
  await withIndex("setups", (index) => index.record({ ...record, run: "older", heads }));
  const refused = indexInto("setups");
  await expect(refused).rejects.toMatchObject({ code: "index_conflict", cure: expect.stringContaining("--table") });
  await expect(refused).rejects.toThrow("with setup 000000000000 (run r); run base was made with setup");
  expect(said).toEqual([]);

  await withIndex("unknown", (index) => index.record({ ...record, run, heads }));
  expect(await indexInto("unknown")).toMatchObject({ kind: "loaded", rows: DOCUMENTS });
  expect(said).toEqual([
    expect.objectContaining({ msg: expect.stringContaining("it is not known with which tokenizer") }),
  ]);
  // Known from then on.
  expect(await withIndex("unknown", async (index) => (await index.runs()).at(-1))).toMatchObject({
    setupSha256: model.setupSha256,
  });
});

test("a table of somebody else, a wrong URL and a missing add-on are told with their cure", async () => {
  const connection = await (await loadLance()).connect(join(folder, "db"));
  (await connection.createTable("foreign", [{ id: "a" }])).close();
  connection.close();
  await expect(put("base", "foreign")).rejects.toThrow("the table foreign in lancedb://");
  await expect(LanceIndex.open({ url: "/data/index", table: "t" })).rejects.toMatchObject({ code: "bad_usage" });
  const nowhere = join(folder, "nowhere/");
  await expect(loadLance(nowhere)).rejects.toMatchObject({
    code: "addon_missing",
    cure: `install it: npm ci --ignore-scripts --prefix ${nowhere}`,
  });
});
