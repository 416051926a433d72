import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import pl from "nodejs-polars";
import { expect, test } from "vitest";
import { decodeResults, encodeResults } from "../../src/arrow/results.ts";
import { decodeStagedShard, encodeStagedShard } from "../../src/arrow/staged.ts";
import type { KeptColumn } from "../../src/core/rows.ts";
import { runOptions } from "../fixtures/run-options.ts";
import { tempFolder } from "../fixtures/temp-folder.ts";

const ROWS = 11;
const numbers = Array.from({ length: ROWS }, (_, i) => i);
const kept: KeptColumn[] = [
  { name: "lang", values: numbers.map((i) => (i % 3 === 0 ? null : i % 3 === 1 ? "" : `灯塔 ${i}`)) },
  { name: "tokens", values: numbers.map(String) },
  { name: "meta.source", values: numbers.map(() => null) },
];
const rows = {
  ids: numbers.map((i) => `d${i}`),
  chunks: new Uint32Array(ROWS),
  charStarts: new Uint32Array(ROWS),
  charEnds: new Uint32Array(ROWS).fill(1),
  textHashes: new Uint8Array(ROWS * 32),
  texts: null,
  kept,
};
const of = { run: "r", shard: "w000000-s0000" };

test("staged rows carry them, also by names that staging uses itself", () => {
  const bytes = encodeStagedShard({
    ...of,
    rows: { ...rows, offsets: Uint32Array.from({ length: ROWS + 1 }, (_, i) => i), tokenIds: new Int32Array(ROWS) },
  });
  expect(decodeStagedShard({ ...of, rows: ROWS, tokens: ROWS, bytes }).kept).toEqual(kept);
});

test("result files have them as columns that others read, with nulls", async () => {
  const options = runOptions({
    model: { id: "m", revision: "1", sha256: "a".repeat(64), dim: 2, maxTokens: 64 },
    keep: kept.map(({ name }) => name),
  });
  const stats = {
    rows: ROWS,
    rejects: 0,
    realTokens: 1,
    paddedTokens: 1,
    batches: 1,
    deviceMs: 1,
    idleMs: 0,
    idle: {},
  };
  const dense = new Float32Array(ROWS * 2).fill(0.7);
  const bytes = encodeResults(
    { ...rows, tokenCounts: new Uint32Array(ROWS), dim: 2, dense, sparse: null, colbert: null },
    { ...of, options, stats, rejectsKey: null },
  );
  const file = decodeResults({ ...of, options, bytes });
  expect(file.rows.kept).toEqual(kept);
  const path = join(await tempFolder(), "rows.arrow");
  await writeFile(path, bytes);
  const frame = await pl.scanIPC(path).collect();
  for (const { name, values } of kept) expect(frame.getColumn(name).toArray()).toEqual(values);
  const other = runOptions({ ...options, keep: ["lang", "year"] });
  expect(() => decodeResults({ ...of, options: other, bytes })).toThrow(/no column year/);
});
