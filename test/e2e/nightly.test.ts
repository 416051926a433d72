/** Incremental nights as operators run them, compared with a full run from scratch. */
import { randomUUID } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, inject, test } from "vitest";
import { loadLance } from "../../src/results/lance-api.ts";
import { FileStore } from "../../src/adapters/file/file-store.ts";
import type { Manifest } from "../../src/core/contracts.ts";
import { readChain, readEffective } from "../../src/run/chain.ts";
import { verifyRun } from "../../src/run/verify.ts";
import { cli, startCli, type Started } from "../fixtures/cli.ts";
import { makeCorpus } from "../fixtures/made-corpus.ts";

const DOCUMENTS = 200;
const SHARE = DOCUMENTS / 100;
const PLAN = ["--heads", "dense,sparse", "--max-tokens", "256", "--overlap", "16"];
/** The same text in another batch may differ in its last bits. */
const TOLERANCE = 1e-5;
let folder = "";
let out = "";
let shared: string[] = [];
const running: Started[] = [];
/** Of the schedule, night by night. */
const runs: string[] = [];

function documents(seed: number): string[] {
  return makeCorpus({ documents: DOCUMENTS, seed, maxWords: 600 }).trim().split("\n");
}

/** The corpus of a night: 1 % of the one before is changed, 1 % is gone, and 1 % is new. */
function nightOf(night: number): string[] {
  const lines = night === 0 ? documents(11) : nightOf(night - 1);
  if (night === 0) return lines;
  const others = documents(100 + night);
  const changed = lines.slice(0, SHARE).map((line, i) => {
    const { id } = JSON.parse(line) as { id: string };
    return JSON.stringify({ ...JSON.parse(others[i]!), id });
  });
  const added = others.slice(-SHARE).map((line) => line.replace(/"id":"d/, `"id":"night-${night}-`));
  return [...lines.slice(2 * SHARE), ...changed, ...added];
}

async function write(night: number): Promise<string> {
  const path = join(folder, "corpus.jsonl");
  await writeFile(path, `${nightOf(night).join("\n")}\n`);
  return path;
}

function start(...args: string[]): Started {
  const started = startCli(args);
  running.push(started);
  return started;
}

async function ok(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await cli(args);
  expect(stderr).not.toMatch(/^error:/m);
  expect(code).toBe(0);
  return stdout;
}

async function sealed(run: string): Promise<void> {
  const manifest = join(folder, "store/runs", run, "manifest.json");
  await expect.poll(() => existsSync(manifest), { timeout: 50_000, interval: 100 }).toBe(true);
}

interface Row {
  readonly dense: Float32Array;
  readonly sparse: string;
  readonly hash: string;
}

async function rowsOf(store: string, run: string): Promise<Map<string, Row>> {
  const found = new Map<string, Row>();
  const files = new FileStore(store);
  for await (const { rows, kept } of readEffective(files, await readChain(files, run))) {
    for (const row of kept) {
      const key = `${rows.ids[row]} ${rows.chunks[row]} ${rows.charStarts[row]}-${rows.charEnds[row]}`;
      expect(found.has(key), `${key} twice`).toBe(false);
      const { offsets, indices } = rows.sparse!;
      found.set(key, {
        dense: rows.dense!.slice(row * rows.dim, (row + 1) * rows.dim),
        sparse: indices.subarray(offsets[row], offsets[row + 1]).join(),
        hash: Buffer.from(rows.textHashes.subarray(row * 32, (row + 1) * 32)).toString("hex"),
      });
    }
  }
  return found;
}

/** What an index has of each row, read by LanceDB itself. */
async function indexedRows(url: string): Promise<Map<string, Pick<Row, "dense">>> {
  const connection = await (await loadLance()).connect(url.slice("lancedb://".length));
  const table = await connection.openTable("docs");
  try {
    // oxlint-disable-next-line typescript/no-explicit-any -- LanceDB's own type of a row
    const rows: any[] = await table.query().toArray();
    const found = new Map(rows.map(({ id, chunk, dense }) => [`${id} ${chunk}`, { dense: dense.toArray() }]));
    expect(found.size).toBe(rows.length);
    return found;
  } finally {
    table.close();
    connection.close();
  }
}

function furthest(
  one: ReadonlyMap<string, Pick<Row, "dense">>,
  other: ReadonlyMap<string, Pick<Row, "dense">>,
): number {
  let furthest = 0;
  for (const [key, { dense }] of one)
    for (const [i, value] of dense.entries())
      furthest = Math.max(furthest, Math.abs(value - other.get(key)!.dense[i]!));
  return furthest;
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "embedfleet-nightly-"));
  out = `file://${join(folder, "store")}`;
  shared = ["--out", out, "--redis", inject("redisUrl"), "--fleet", randomUUID(), "--log-level", "warn"];
  start("work", ...shared, "--reconcile-seconds", "1", "--threads", "1");
});
afterAll(async () => {
  for (const { child } of running) child.kill("SIGTERM");
  await Promise.all(running.map(({ finished }) => finished));
  await rm(folder, { recursive: true, force: true });
});

test("two nights, compacted and indexed, are a full run from scratch: the same rows, the same vectors, each once", async () => {
  const corpus = await write(0);
  const added = await ok(
    "backfill",
    "add",
    "docs",
    corpus,
    ...PLAN,
    ...shared,
    "--cron",
    "0 2 * * *",
    "--tz",
    "Europe/Helsinki",
    "--json",
  );
  expect(JSON.parse(added)).toMatchObject({ name: "docs", timezone: "Europe/Helsinki", lastRun: null });
  start("control", ...shared);
  const url = `lancedb://${join(folder, "db")}`;
  const index = ["--to", url, "--table", "docs", "--json", "--log-level", "warn"];
  for (const night of [0, 1, 2]) {
    await write(night);
    const { run } = JSON.parse(await ok("backfill", "trigger", "docs", ...shared, "--json")) as { run: string };
    await sealed(run);
    runs.push(run);
    await ok("index", out, run, ...index);
  }
  const last = runs[2]!;
  const files = new FileStore(join(folder, "store"));
  const [{ kind, base, totals }] = (await readChain(files, last)) as [Manifest];
  expect({ kind, base, ...totals }).toMatchObject({
    kind: "delta",
    base: runs[1],
    documents: DOCUMENTS,
    unchanged: DOCUMENTS - 2 * SHARE,
  });
  await ok("compact", last, "--out", out, "--log-level", "warn");
  const scratch = join(folder, "scratch");
  await ok("run", await write(2), "--out", scratch, "--run", "full", ...PLAN, "--log-level", "error");
  const [full, compacted] = [await rowsOf(scratch, "full"), await rowsOf(join(folder, "store"), `${last}-full`)];
  expect(full.size).toBeGreaterThan(DOCUMENTS);
  const names = (rows: ReadonlyMap<string, Row>): string[] =>
    [...rows].map(([key, { hash, sparse }]) => `${key} ${hash} ${sparse}`).toSorted();
  expect(names(compacted)).toEqual(names(full));
  expect(furthest(full, compacted)).toBeLessThan(TOLERANCE);
  expect(await verifyRun({ store: files, run: `${last}-full` })).toMatchObject({ ok: true, rows: full.size });
  const again = JSON.parse(await ok("index", out, `${last}-full`, ...index)) as object;
  expect(again).toMatchObject({ upserted: 0, removed: 0, rows: full.size });
  const byRow = new Map([...full].map(([key, row]) => [key.slice(0, key.lastIndexOf(" ")), row]));
  const indexed = await indexedRows(url);
  expect([...indexed.keys()].toSorted()).toEqual([...byRow.keys()].toSorted());
  expect(furthest(indexed, byRow)).toBeLessThan(TOLERANCE);
}, 300_000);

test("a producer of a delta, killed while it plans, is run again to the same end", async () => {
  const base = runs[2]!;
  const delta = "by-hand";
  const again = ["enqueue", await write(3), ...shared, ...PLAN, "--run", delta, "--since", base];
  const { child, finished } = start(...again);
  await expect
    .poll(() => existsSync(join(folder, "store/runs", delta, "run.json")), { interval: 5, timeout: 50_000 })
    .toBe(true);
  child.kill("SIGKILL");
  await finished;
  await ok(...again);
  await sealed(delta);
  expect(await verifyRun({ store: new FileStore(join(folder, "store")), run: delta })).toMatchObject({
    ok: true,
    base,
  });
  const rows = await rowsOf(join(folder, "store"), delta);
  const ids = nightOf(3).map((line) => (JSON.parse(line) as { id: string }).id);
  expect(new Set([...rows.keys()].map((key) => key.split(" ")[0]))).toEqual(new Set(ids));
});
