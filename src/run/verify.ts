/** Reads a run back as a stranger would and counts what is wrong with it. */
import { IdSet } from "../adapters/id-set.ts";
import type { ResultRows } from "../arrow/results.ts";
import type { ClosedRecord, Manifest, RunRecord, ShardPlan } from "../core/contracts.ts";
import { FleetError } from "../core/errors.ts";
import { runKeys } from "../core/layout.ts";
import type { ObjectStore } from "../core/ports.ts";
import { hash } from "node:crypto";
import { rowKey, textHashOf } from "../core/rows.ts";
import { readChain } from "./chain.ts";
import { type InspectedShard, inspectShard, readRejects } from "./inspect-shard.ts";
import { mapConcurrent } from "./map-concurrent.ts";
import { readDeletes, readDocumentIndex } from "./read-lists.ts";
import { listData, readClosed, readRun, readWindows } from "./read-plan.ts";
import { readManifest } from "./seal.ts";

const FILES_IN_FLIGHT = 4;
/** Each value of a float16 vector is off by 1 in 2,048 at most, and so is its length; a float32 one is far closer. */
const NORM_TOLERANCE = 1e-3;
const MAX_FINDINGS = 20;

/** What reading a whole run back has shown; the counts of faults are 0 in a sound run. */
export interface VerifyReport {
  /** Every planned row is there once, or rejected with a reason, and is sound. */
  readonly ok: boolean;
  readonly run: string;
  /** Of a delta: the run whose rows it completes. Its rows are verified by themselves. */
  readonly base?: string;
  readonly sealed: boolean;
  readonly documents: number;
  readonly rows: number;
  readonly rejects: number;
  readonly shards: number;
  readonly missing: number;
  readonly duplicates: number;
  readonly nonFinite: number;
  readonly badNorm: number;
  readonly badHash: number;
  /** The first findings, one sentence each, naming file and row. */
  readonly findings: readonly string[];
}

type Tally = { -readonly [K in keyof Omit<VerifyReport, "ok" | "run" | "base" | "sealed" | "findings">]: number };

interface Inspection {
  readonly plan: ShardPlan;
  readonly shard: InspectedShard | FleetError;
}

/**
 * Reads a run back and compares it with its plan: each planned row once, vectors finite and of unit length,
 * hashes right.
 *
 * @throws FleetError `run_unknown`
 */
export async function verifyRun(
  params: Readonly<{ store: ObjectStore; run: string; onShard?: (done: number, planned: number) => void }>,
): Promise<VerifyReport> {
  const { store, run } = params;
  const record = await readRun(store, run);
  const [manifest, closed, data] = await Promise.all([
    readManifest(store, run),
    readClosed(store, run),
    listData(store, run),
  ]);
  const verifier = new Verifier(record, manifest);
  try {
    if (closed === null) verifier.find("the run's corpus has not been read to the end");
    for await (const { plan, shard } of inspectAll(store, record)) {
      verifier.check(plan, shard);
      data.delete(runKeys(run).data(plan.shard));
      params.onShard?.(verifier.tally.shards, closed?.shards ?? 0);
    }
    await verifier.checkWindowRejects(store);
    for (const fault of await findListFaults(store, record, closed)) verifier.find(fault);
    for (const key of data.keys()) verifier.find(`${key} is not in the plan`);
    if (closed !== null) verifier.checkTotals(closed.rows + closed.rejects);
    return verifier.report();
  } finally {
    verifier.close();
  }
}

/** What is wrong with what is not a result file: the document index, the rows taken away, the runs built on. */
async function findListFaults(store: ObjectStore, record: RunRecord, closed: ClosedRecord | null): Promise<string[]> {
  const { run, lineage } = record;
  const checks: (() => Promise<unknown>)[] = [
    () => readToEnd(readDocumentIndex(store, run)),
    () => readToEnd(readDeletes(store, { run, deletes: closed?.deletes })),
  ];
  if (lineage?.kind === "delta") checks.push(() => readChain(store, lineage.base));
  const faults: string[] = [];
  for (const check of checks) {
    await check().catch((error: unknown) => {
      if (!(error instanceof FleetError) || error.code.startsWith("store_")) throw error;
      faults.push(error.message);
    });
  }
  return faults;
}

async function readToEnd(items: AsyncIterable<unknown>): Promise<void> {
  for await (const _ of items);
}

async function* inspectAll(store: ObjectStore, record: RunRecord): AsyncGenerator<Inspection> {
  async function* plans(): AsyncGenerator<ShardPlan> {
    for await (const window of readWindows(store, record.run)) yield* window.shards;
  }
  yield* mapConcurrent(plans(), FILES_IN_FLIGHT, async (plan) => {
    try {
      return { plan, shard: await inspectShard(store, record, plan) };
    } catch (error) {
      if (error instanceof FleetError && error.code.startsWith("object_")) return { plan, shard: error };
      throw error;
    }
  });
}

class Verifier {
  readonly tally: Tally = {
    documents: 0,
    rows: 0,
    rejects: 0,
    shards: 0,
    missing: 0,
    duplicates: 0,
    nonFinite: 0,
    badNorm: 0,
    badHash: 0,
  };
  readonly #record: RunRecord;
  readonly #manifest: Manifest | null;
  readonly #sha256ByShard: ReadonlyMap<string, string>;
  readonly #seen = new IdSet();
  readonly #findings: string[] = [];
  #faults = 0;

  constructor(record: RunRecord, manifest: Manifest | null) {
    this.#record = record;
    this.#manifest = manifest;
    this.#sha256ByShard = new Map(manifest?.files.map((file) => [file.shard, file.sha256]));
  }

  find(finding: string): void {
    this.#faults++;
    if (this.#findings.length < MAX_FINDINGS) this.#findings.push(finding);
  }

  check(plan: ShardPlan, shard: InspectedShard | FleetError): void {
    this.tally.shards++;
    if (shard instanceof FleetError) {
      this.tally.missing += plan.rows;
      if (shard.code === "object_corrupt") this.tally.badHash++;
      return this.find(shard.message);
    }
    this.tally.rejects += shard.rejects.length;
    if (shard.fault !== null) {
      this.tally.badHash++;
      this.tally.missing += Math.max(0, plan.rows - shard.file.stats.rows - shard.rejects.length);
      this.find(`${shard.key}: ${shard.fault}`);
    }
    const sealedAs = this.#sha256ByShard.get(plan.shard);
    if (this.#manifest !== null && sealedAs !== shard.sha256) {
      this.tally.badHash++;
      this.find(`${shard.key} has sha256 ${shard.sha256}; the manifest says ${sealedAs ?? "nothing of it"}`);
    }
    this.#checkRows(shard);
  }

  #checkRows(shard: InspectedShard): void {
    const { rows } = shard.file;
    for (let row = 0; row < rows.ids.length; row++) {
      this.tally.rows++;
      const name = `${shard.key} row ${row} (id ${JSON.stringify(rows.ids[row])}, chunk ${rows.chunks[row]})`;
      if (!this.#seen.add(rowKey(rows.ids[row]!, rows.chunks[row]!))) {
        this.tally.duplicates++;
        this.find(`${name} appears twice in the run`);
      }
      this.#checkVectors(rows, row, name);
      if (
        rows.texts !== null &&
        hash("sha256", rows.texts[row]!, "hex") !== Buffer.from(textHashOf(rows, row)).toString("hex")
      ) {
        this.tally.badHash++;
        this.find(`${name} has a text that its text_hash does not match`);
      }
    }
  }

  #checkVectors(rows: ResultRows, row: number, name: string): void {
    const verdicts = [denseVerdict(rows, row), sparseVerdict(rows, row), colbertVerdict(rows, row)];
    for (const verdict of verdicts) {
      if (verdict === null) continue;
      this.tally[verdict.kind]++;
      this.find(`${name}: ${verdict.finding}`);
    }
  }

  async checkWindowRejects(store: ObjectStore): Promise<void> {
    for await (const window of readWindows(store, this.#record.run)) {
      this.tally.documents += window.documents;
      if (window.rejects === 0) continue;
      const key = runKeys(this.#record.run).windowRejects(window.window);
      const rejects = await readRejects(store, key);
      this.tally.rejects += rejects.length;
      if (rejects.length !== window.rejects)
        this.find(`${key} has ${rejects.length} rejects where ${window.rejects} were planned`);
    }
  }

  /** @param planned Rows and producer's rejects of the closed plan. */
  checkTotals(planned: number): void {
    const found = this.tally.rows + this.tally.rejects;
    if (found !== planned) this.find(`${found} rows and rejects where ${planned} were planned`);
  }

  report(): VerifyReport {
    return {
      ok: this.#faults === 0,
      run: this.#record.run,
      ...(this.#record.lineage?.kind === "delta" && { base: this.#record.lineage.base }),
      sealed: this.#manifest !== null,
      ...this.tally,
      findings: this.#findings,
    };
  }

  close(): void {
    this.#seen.close();
  }
}

interface Verdict {
  readonly kind: "nonFinite" | "badNorm";
  readonly finding: string;
}

function denseVerdict(rows: ResultRows, row: number): Verdict | null {
  return rows.dense === null ? null : normVerdict(rows.dense, row, rows.dim, "the dense vector");
}

function colbertVerdict(rows: ResultRows, row: number): Verdict | null {
  if (rows.colbert === null) return null;
  const { offsets, values } = rows.colbert;
  const vectors = offsets[row + 1]! - offsets[row]!;
  if (vectors !== rows.tokenCounts[row]! - 1) {
    return { kind: "badNorm", finding: `${vectors} ColBERT vectors for ${rows.tokenCounts[row]} tokens` };
  }
  for (let vector = offsets[row]!; vector < offsets[row + 1]!; vector++) {
    const verdict = normVerdict(values, vector, rows.dim, `ColBERT vector ${vector - offsets[row]!}`);
    if (verdict !== null) return verdict;
  }
  return null;
}

function normVerdict(values: Float32Array, index: number, dim: number, what: string): Verdict | null {
  let sum = 0;
  for (let i = index * dim; i < (index + 1) * dim; i++) sum += values[i]! * values[i]!;
  if (!Number.isFinite(sum)) return { kind: "nonFinite", finding: `${what} is not finite` };
  if (Math.abs(Math.sqrt(sum) - 1) <= NORM_TOLERANCE) return null;
  return { kind: "badNorm", finding: `${what} has length ${Math.sqrt(sum).toFixed(6)}` };
}

function sparseVerdict(rows: ResultRows, row: number): Verdict | null {
  if (rows.sparse === null) return null;
  const { offsets, indices, values } = rows.sparse;
  for (let i = offsets[row]!; i < offsets[row + 1]!; i++) {
    if (!Number.isFinite(values[i])) return { kind: "nonFinite", finding: "a sparse weight is not finite" };
    if (!(values[i]! > 0)) return { kind: "badNorm", finding: `a sparse weight is ${values[i]}` };
    if (i > offsets[row]! && indices[i]! <= indices[i - 1]!)
      return { kind: "badNorm", finding: "sparse indices do not ascend" };
  }
  return null;
}
