/** Reads a run back independently and counts its faults. */
import { IdSet } from "../disk/id-set.ts";
import type { ResultRows } from "../arrow/results.ts";
import type { ClosedRecord, Manifest, RunRecord, ShardPlan } from "../core/contracts.ts";
import { FleetError } from "../core/errors.ts";
import { runKeys } from "../core/layout.ts";
import type { ObjectStore } from "../core/ports.ts";
import { hash } from "node:crypto";
import { rowKey, textHashOf } from "../core/rows.ts";
import { engineNameOf } from "../core/same-model.ts";
import { proveSealed, readChain, sealFault } from "./chain.ts";
import { type InspectedShard, inspectShard } from "./inspect-shard.ts";
import { mapConcurrent } from "./map-concurrent.ts";
import { readDeletes, readDocumentIndex, readWindowRejects } from "./read-lists.ts";
import { listData, readClosed, readRun, readWindows } from "./read-plan.ts";
import { readManifest } from "./seal.ts";
import { faultsOfVectors } from "./verify-vectors.ts";

const FILES_IN_FLIGHT = 4;
const MAX_FINDINGS = 20;

/** Result of reading a whole run back; the counts of faults are 0 in a sound run. */
export interface VerifyReport {
  /** Whether every planned row exists once, or is rejected with a reason, and is sound. */
  readonly ok: boolean;
  readonly run: string;
  /** In a delta: the run whose rows it completes. Its rows are verified separately. */
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
  /**
   * Engine and version that made the vectors, as in `onnx 1.30.0`; several where workers differed, whose vectors then may
   * differ by rounding. Files of earlier versions record none.
   */
  readonly engines: readonly string[];
  /** Arrow files in `data/` that the plan does not name: not part of the run, but readers of `data/*.arrow` include them. */
  readonly strays: readonly string[];
  /** The first findings, one sentence each, naming file and row. */
  readonly findings: readonly string[];
}

type Tally = {
  -readonly [
    K in keyof Omit<VerifyReport, "ok" | "run" | "base" | "sealed" | "engines" | "strays" | "findings">
  ]: number;
};

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
  const [manifest, closed, listed] = await Promise.all([
    readManifest(store, run),
    readClosed(store, run),
    listData(store, run),
  ]);
  const verifier = new Verifier(record, manifest);
  const reading: Reading = { store, record, closed, verifier };
  try {
    if (closed === null) verifier.find("the run's corpus has not been read to the end");
    const isWhole = await verifier.gather(async () => {
      for await (const { plan, shard } of inspectAll(reading)) {
        verifier.check(plan, shard);
        listed.delete(runKeys(run).data(plan.shard));
        params.onShard?.(verifier.tally.shards, closed?.shards ?? 0);
      }
    });
    await checkLists(reading);
    // An incomplete plan does not tell which files it named.
    if (isWhole) verifier.checkStrays([...listed.keys()]);
    if (closed !== null) verifier.checkTotals(closed);
    return verifier.report();
  } finally {
    verifier.close();
  }
}

interface Reading {
  readonly store: ObjectStore;
  readonly record: RunRecord;
  readonly closed: ClosedRecord | null;
  readonly verifier: Verifier;
}

/** Checks everything but the result files: rejects, the document index, deleted rows, and the base runs with their plans. */
async function checkLists({ store, record, closed, verifier }: Reading): Promise<void> {
  const { run, lineage } = record;
  await verifier.gather(async () => {
    for await (const rejects of readWindowRejects(store, run, closed)) verifier.tally.rejects += rejects.length;
  });
  await verifier.gather(() => readToEnd(readDocumentIndex(store, run, closed)));
  await verifier.gather(() => readToEnd(readDeletes(store, { run, deletes: closed?.deletes })));
  if (lineage?.kind !== "delta") return;
  const chain: Manifest[] = [];
  await verifier.gather(async () => void chain.push(...(await readChain(store, lineage.base))));
  for (const manifest of chain) {
    await verifier.gather(async () => {
      await readToEnd(readWindows(store, manifest.run, await proveSealed(store, manifest)));
    });
  }
}

async function readToEnd(items: AsyncIterable<unknown>): Promise<void> {
  for await (const _ of items);
}

async function* inspectAll({ store, record, closed, verifier }: Reading): AsyncGenerator<Inspection> {
  async function* plans(): AsyncGenerator<ShardPlan> {
    for await (const window of readWindows(store, record.run, closed)) {
      verifier.tally.documents += window.documents;
      yield* window.shards;
    }
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
  readonly #engines = new Set<string>();
  #strays: readonly string[] = [];
  #faults = 0;

  constructor(record: RunRecord, manifest: Manifest | null) {
    this.#record = record;
    this.#manifest = manifest;
    this.#sha256ByShard = new Map(manifest?.files.map((file) => [file.shard, file.sha256]));
  }

  find(finding: string): void {
    this.#faults++;
    if (this.#findings.length < MAX_FINDINGS && !this.#findings.includes(finding)) this.#findings.push(finding);
  }

  check(plan: ShardPlan, shard: InspectedShard | FleetError): void {
    this.tally.shards++;
    if (shard instanceof FleetError) {
      this.tally.missing += plan.rows;
      if (shard.code === "object_corrupt") this.tally.badHash++;
      return this.find(shard.message);
    }
    this.tally.rejects += shard.rejects.length;
    const { engineVersion } = shard.file;
    if (engineVersion !== null) this.#engines.add(`${engineNameOf(this.#record.options)} ${engineVersion}`);
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
    for (const { kind, finding } of faultsOfVectors(rows, row)) {
      this.tally[kind]++;
      this.find(`${name}: ${finding}`);
    }
  }

  /**
   * Turns damage into a finding and lets the caller continue; a failing store is still a fault.
   * @returns Whether everything was read.
   */
  async gather(read: () => Promise<void>): Promise<boolean> {
    try {
      await read();
      return true;
    } catch (error) {
      if (!(error instanceof FleetError) || error.code.startsWith("store_")) throw error;
      const cure = error.code === "plan_invalid" ? `; ${error.cure}` : "";
      this.find(error.message + cure);
      return false;
    }
  }

  /** @param keys Objects beside the result files. They are not part of the run, but readers of data/*.arrow include them. */
  checkStrays(keys: readonly string[]): void {
    this.#strays = keys.filter((key) => key.endsWith(".arrow"));
  }

  checkTotals(closed: ClosedRecord): void {
    const planned = closed.rows + closed.rejects;
    const found = this.tally.rows + this.tally.rejects;
    if (found !== planned) this.find(`${found} rows and rejects where ${planned} were planned`);
    // Rows of a missing window, whose shards could not be checked.
    this.tally.missing = Math.max(this.tally.missing, planned - found);
    const sealFaulty = this.#manifest === null ? null : sealFault(this.#manifest, closed);
    if (sealFaulty !== null) this.find(sealFaulty);
  }

  report(): VerifyReport {
    return {
      ok: this.#faults === 0,
      run: this.#record.run,
      ...(this.#record.lineage?.kind === "delta" && { base: this.#record.lineage.base }),
      sealed: this.#manifest !== null,
      ...this.tally,
      engines: [...this.#engines].toSorted(),
      strays: this.#strays,
      findings: this.#findings,
    };
  }

  close(): void {
    this.#seen.close();
  }
}
