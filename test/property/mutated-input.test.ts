/**
 * What the fleet reads back may have been written by anyone: mutated bytes must be read as what they are or
 * refused with a coded error, quickly, without large allocations and without naming a key elsewhere.
 */
import { writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { expect, test } from "vitest";
import { knownManifest, readManifest } from "../../models/registry/registry.ts";
import { readJsonl } from "../../producers/sources/jsonl.ts";
import {
  decodeDeletes,
  decodeDocumentIndex,
  encodeDeletes,
  encodeDocumentIndex,
} from "../../src/arrow/document-index.ts";
import { decodeResults, encodeResults, type ResultRows } from "../../src/arrow/results.ts";
import { decodeStagedShard, encodeStagedShard } from "../../src/arrow/staged.ts";
import {
  jobPayloadSchema,
  type Manifest,
  manifestSchema,
  rejectSchema,
  runRecordSchema,
  type WindowPlan,
  windowPlanSchema,
} from "../../src/core/contracts.ts";
import { FleetError } from "../../src/core/errors.ts";
import { readRecord } from "../../src/core/json.ts";
import { assertKey, runKeys, windowOfShard } from "../../src/core/layout.ts";
import type { PlannedRows } from "../../src/core/rows.ts";
import { randomOf } from "../fixtures/made-corpus.ts";
import { mutate } from "../fixtures/mutants.ts";
import { runOptions } from "../fixtures/run-options.ts";
import { ScriptedStore } from "../fixtures/scripted-store.ts";
import { pipeOf, READ_OPTIONS } from "../fixtures/sources.ts";
import { tempFolder } from "../fixtures/temp-folder.ts";

const MUTANTS = 10_000;
const SEED = Number(process.env["FUZZ_SEED"] ?? 1);

async function forEachMutant(original: Uint8Array, read: (bytes: Uint8Array) => unknown): Promise<void> {
  const random = randomOf(SEED);
  let refused = 0;
  const before = process.memoryUsage().arrayBuffers;
  for (let i = 0; i < MUTANTS; i++) {
    try {
      await read(mutate(random, original));
    } catch (error) {
      if (!(error instanceof FleetError)) throw new Error(`FUZZ_SEED=${SEED}, mutant ${i}`, { cause: error });
      refused++;
    }
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(512 * 1024 * 1024);
  }
  expect(refused).toBeGreaterThan(MUTANTS / 10);
}

const rows: PlannedRows = {
  ids: ["a", "灯塔", "c"],
  chunks: Uint32Array.of(0, 1, 0),
  charStarts: Uint32Array.of(0, 4, 0),
  charEnds: Uint32Array.of(9, 8, 2),
  textHashes: new Uint8Array(96).fill(7),
  offsets: Uint32Array.of(0, 7, 12, 15),
  tokenIds: Int32Array.from({ length: 15 }, (_, i) => i),
  texts: ["one", "two", "three"],
  kept: [{ name: "lang", values: ["en", null, "fi"] }],
};

const options = runOptions({
  model: { id: "m", revision: "1", sha256: "a".repeat(64), dim: 4, maxTokens: 64 },
  heads: ["dense", "sparse", "colbert"],
  keepText: true,
  keep: ["lang"],
});
const stats = { rows: 3, rejects: 0, realTokens: 15, paddedTokens: 18, batches: 1, deviceMs: 1.5, idleMs: 0, idle: {} };
const results: ResultRows = {
  ...rows,
  tokenCounts: Uint32Array.of(7, 5, 3),
  dim: options.model.dim,
  dense: new Float32Array(12).fill(0.5),
  sparse: {
    offsets: Uint32Array.of(0, 2, 3, 4),
    indices: Uint32Array.of(1, 2, 3, 4),
    values: new Float32Array(4).fill(1),
  },
  colbert: { offsets: Uint32Array.of(0, 6, 10, 12), values: new Float32Array(48).fill(0.25) },
};

test("staged streams", async () => {
  const of = { run: "r", shard: "w000000-s0000" };
  const bytes = encodeStagedShard({ ...of, rows });
  await forEachMutant(bytes, (mutant) => decodeStagedShard({ ...of, rows: 3, tokens: 15, bytes: mutant }));
});

test("result files", async () => {
  const of = { run: "r", shard: "w000000-s0000", options };
  const bytes = encodeResults(results, { ...of, stats, rejectsKey: null });
  await forEachMutant(bytes, (mutant) => decodeResults({ ...of, bytes: mutant }));
});

test("document indexes", async () => {
  const index = { ids: ["a", "灯塔", "c"], contentKeys: new Uint8Array(48).fill(7), chunks: Uint32Array.of(1, 2, 1) };
  await forEachMutant(encodeDocumentIndex("r", index), (mutant) => decodeDocumentIndex("r", mutant));
});

test("lists of deleted rows", async () => {
  const gone = { ids: ["a", "b"], chunks: Uint32Array.of(0, 1), reasons: ["removed", "changed"] as const };
  await forEachMutant(encodeDeletes("r", gone), (mutant) => decodeDeletes("r", mutant));
});

const shard = {
  shard: "w000000-s0000",
  start: 0,
  end: 800,
  rows: 3,
  tokens: 15,
  longest: 7,
  rowsSha256: "b".repeat(64),
};
test("job payloads", async () => {
  const { rowsSha256: _, ...place } = shard;
  const payload = { v: 1, run: "r", ...place };
  expect(jobPayloadSchema.safeParse(payload).error).toBeUndefined();
  await forEachMutant(Buffer.from(JSON.stringify(payload)), async (bytes) => {
    const store = new ScriptedStore({ objects: new Map([["job.json", bytes]]) });
    const job = await readRecord(store, "job.json", jobPayloadSchema);
    assertInside(runKeys(job.run).staged(windowOfShard(job.shard)), `runs/${job.run}/plan/w`);
    assertInside(runKeys(job.run).data(job.shard), `runs/${job.run}/data/w`);
  });
});

/** `assertKey` is what the stores ask; a run id has no separators of its own. */
function assertInside(key: string, prefix: string): void {
  expect(key.startsWith(prefix), key).toBe(true);
  expect(key.split("/")).toHaveLength(4);
  expect(() => assertKey(key)).not.toThrow();
}

test("window plans", async () => {
  const plan: WindowPlan = {
    version: 1,
    run: "r",
    window: "w000000",
    firstDocument: 0,
    documents: 3,
    rows: 3,
    tokens: 15,
    rejects: 0,
    sourceSha256: "c".repeat(64),
    stagedBytes: 800,
    shards: [shard],
  };
  expect(windowPlanSchema.safeParse(plan).error).toBeUndefined();
  await forEachMutant(Buffer.from(JSON.stringify(plan)), async (bytes) => {
    const store = new ScriptedStore({ objects: new Map([["plan.json", bytes]]) });
    const { run, shards } = await readRecord(store, "plan.json", windowPlanSchema);
    for (const each of shards) assertInside(runKeys(run).data(each.shard), `runs/${run}/data/w`);
  });
});

test("manifests of runs", async () => {
  const keys = runKeys("r");
  const file = { rows: 3, bytes: 100, sha256: "d".repeat(64) };
  const counts = { documents: 3, rows: 3, rejects: 0, shards: 1, files: 1, bytes: 100, batches: 1 };
  const manifest: Manifest = {
    version: 1,
    kind: "delta",
    run: "r",
    base: "q",
    createdAt: "2026-01-01T00:00:00.000Z",
    sealedAt: "2026-01-01T00:00:01.000Z",
    options,
    totals: { ...counts, realTokens: 15, paddedTokens: 18, deviceMs: 1.5, idleMs: 0, idle: {} },
    files: [{ key: keys.data(shard.shard), shard: shard.shard, ...file }],
    deletes: [{ key: "runs/r/deletes.arrow", ...file }],
    rejects: [{ key: "runs/r/rejects/w000000.jsonl", lines: 1 }],
  };
  expect(manifestSchema.safeParse(manifest).error).toBeUndefined();
  await forEachMutant(Buffer.from(JSON.stringify(manifest)), async (bytes) => {
    const store = new ScriptedStore({ objects: new Map([["manifest.json", bytes]]) });
    const { run, files, deletes = [], rejects } = await readRecord(store, "manifest.json", manifestSchema);
    for (const { key } of [...files, ...deletes, ...rejects]) {
      expect(key.startsWith(`runs/${run}/`), key).toBe(true);
      expect(() => assertKey(key)).not.toThrow();
    }
  });
});

test("manifests of models", async () => {
  const folder = await tempFolder();
  const file = join(folder, "manifest.json");
  await forEachMutant(Buffer.from(JSON.stringify(knownManifest("bge-m3"))), (bytes) => {
    writeFileSync(file, bytes);
    const { id, revision, tokenizer, weights } = readManifest(file);
    const paths = [tokenizer, ...Object.values(weights).flat()].map(({ path }) => path);
    for (const path of [id, revision, ...paths]) expect(resolve(folder, path).startsWith(folder), path).toBe(true);
  });
});

test("JSONL: each line is a document or a reject, and no line is lost", async () => {
  const lines = Array.from({ length: 5 }, (_, i) => `{"id":"d${i}","text":"text of document ${i} 灯塔"}\n`).join("");
  const random = randomOf(SEED);
  const settings = { ...READ_OPTIONS, maxDocumentBytes: 200 };
  for (let i = 0; i < MUTANTS; i++) {
    const bytes = Buffer.from(mutate(random, Buffer.from(lines)));
    // A mutant may have become gzip by its first bytes; then it is one damaged stream and not lines.
    const isGzip = bytes[0] === 0x1f && bytes[1] === 0x8b;
    let found = 0;
    for await (const item of readJsonl(pipeOf([bytes], "f"), settings)) {
      if (item.kind === "reject") expect(rejectSchema.safeParse(item.reject).error).toBeUndefined();
      found++;
    }
    const wanted = bytes
      .toString("latin1")
      .split("\n")
      .filter((line) => line.trim() !== "");
    if (!isGzip) expect(found, `FUZZ_SEED=${SEED}, mutant ${i}`).toBeLessThanOrEqual(wanted.length);
    if (!isGzip && !/[^\x20-\x7e\n]/.test(bytes.toString("latin1"))) expect(found).toBe(wanted.length);
  }
});

test("schemas take any JSON value without a crash", () => {
  for (const value of [
    null,
    1,
    "x",
    [],
    {},
    { version: 1 },
    { __proto__: null },
    JSON.parse('{"__proto__":{"run":"r"}}'),
  ])
    for (const schema of [runRecordSchema, manifestSchema, windowPlanSchema, jobPayloadSchema])
      expect(schema.safeParse(value).success).toBe(false);
});
