/**
 * Observation of a run over time. Plans never change and results stay, so they are read once: another look at a run of
 * millions of rows costs one listing of its result files.
 */
import type { ClosedRecord, Manifest, RunRecord, WindowPlan } from "../core/contracts.ts";
import type { Hold } from "../core/guards.ts";
import { runKeys } from "../core/layout.ts";
import type { ObjectStore } from "../core/ports.ts";
import { emptyLengths, lengthBucket } from "../core/worker-state.ts";
import { isCancelled } from "./cancelled.ts";
import { findHold } from "./hold.ts";
import { listData, readClosed, readRun, readWindow } from "./read-plan.ts";
import { readManifest } from "./seal.ts";

/** Sums of what is planned, or of the part that is done. */
export interface RunSums {
  readonly shards: number;
  readonly rows: number;
  readonly tokens: number;
  readonly bytes: number;
}

type SealedSums = Pick<Manifest, "totals" | "sealedAt">;

export interface RunSnapshot {
  readonly record: RunRecord;
  /** The parts of the manifest that are kept; the whole lists every file. */
  readonly sealed: SealedSums | null;
  readonly closed: ClosedRecord | null;
  readonly isCancelled: boolean;
  /** Why it is not sealed until a person accepts it. */
  readonly hold: Hold | null;
  readonly documents: number;
  readonly windowRejects: number;
  /** In a delta: number of documents that the base holds unchanged. */
  readonly unchanged: number;
  readonly planned: RunSums;
  readonly done: RunSums;
  /** Planned rows by length, estimated from the mean of each shard, whose rows have nearly equal length. */
  readonly rowsByLength: readonly number[];
}

interface WatchedWindow {
  readonly plan: Pick<WindowPlan, "documents" | "rejects" | "unchanged">;
  readonly planned: RunSums;
  readonly rowsByLength: readonly number[];
  /** Shards without a result file at the last look; once empty, it stays empty. */
  undone: { readonly key: string; readonly rows: number; readonly tokens: number }[];
  readonly doneBytes: { bytes: number };
}

export class RunWatch {
  readonly #store: ObjectStore;
  readonly #run: string;
  readonly #windows: WatchedWindow[] = [];
  #record: RunRecord | null = null;
  #closed: ClosedRecord | null = null;
  #sealed: SealedSums | null = null;
  #isCancelled = false;
  #hold: Hold | null = null;

  constructor(params: Readonly<{ store: ObjectStore; run: string }>) {
    this.#store = params.store;
    this.#run = params.run;
  }

  /** @throws FleetError `run_unknown` */
  async look(): Promise<RunSnapshot> {
    // A run of which nothing is planned may be begun anew.
    if (this.#record === null || this.#record.unplanned !== undefined)
      this.#record = await readRun(this.#store, this.#run);
    this.#sealed ??= await this.#readSealed();
    // A cancelled run no longer changes.
    if (this.#sealed === null && !this.#isCancelled) await this.#lookAtPlan();
    const windows = this.#windows;
    const planned = sumOf(windows.map((window) => window.planned));
    const undone = sumOf(
      windows.flatMap((window) => window.undone.map(({ rows, tokens }) => ({ shards: 1, rows, tokens, bytes: 0 }))),
    );
    const lengths = emptyLengths();
    for (const { rowsByLength } of windows) rowsByLength.forEach((rows, i) => (lengths[i]! += rows));
    return {
      record: this.#record,
      sealed: this.#sealed,
      closed: this.#closed,
      isCancelled: this.#isCancelled,
      hold: this.#sealed === null ? this.#hold : null,
      documents: windows.reduce((sum, { plan }) => sum + plan.documents, 0),
      windowRejects: windows.reduce((sum, { plan }) => sum + plan.rejects, 0),
      unchanged: windows.reduce((sum, { plan }) => sum + (plan.unchanged ?? 0), 0),
      planned,
      done: {
        shards: planned.shards - undone.shards,
        rows: planned.rows - undone.rows,
        tokens: planned.tokens - undone.tokens,
        bytes: windows.reduce((sum, { doneBytes }) => sum + doneBytes.bytes, 0),
      },
      rowsByLength: lengths,
    };
  }

  async #readSealed(): Promise<SealedSums | null> {
    const manifest = await readManifest(this.#store, this.#run);
    return manifest === null ? null : { totals: manifest.totals, sealedAt: manifest.sealedAt };
  }

  async #lookAtPlan(): Promise<void> {
    this.#isCancelled ||= await isCancelled(this.#store, this.#run);
    this.#closed ??= await readClosed(this.#store, this.#run);
    if (this.#closed !== null)
      this.#hold = await findHold(this.#store, { record: this.#record!, closed: this.#closed });
    await this.#readNewWindows();
    const data = await listData(this.#store, this.#run);
    for (const window of this.#windows) {
      if (window.undone.length === 0) continue;
      const undone = window.undone.filter(({ key }) => !data.has(key));
      for (const { key } of window.undone) window.doneBytes.bytes += data.get(key) ?? 0;
      window.undone = undone;
    }
  }

  async #readNewWindows(): Promise<void> {
    while (this.#closed === null || this.#windows.length < this.#closed.windows) {
      const found = await readWindow(this.#store, this.#run, this.#windows.length);
      if (found === null) return;
      this.#windows.push(watched(this.#run, found.plan));
    }
  }
}

function watched(run: string, plan: WindowPlan): WatchedWindow {
  const rowsByLength = emptyLengths();
  for (const { rows, tokens } of plan.shards) rowsByLength[lengthBucket(tokens / rows)]! += rows;
  return {
    plan: { documents: plan.documents, rejects: plan.rejects, unchanged: plan.unchanged },
    planned: sumOf(plan.shards.map(({ rows, tokens }) => ({ shards: 1, rows, tokens, bytes: 0 }))),
    rowsByLength,
    undone: plan.shards.map(({ shard, rows, tokens }) => ({ key: runKeys(run).data(shard), rows, tokens })),
    doneBytes: { bytes: 0 },
  };
}

function sumOf(parts: readonly RunSums[]): RunSums {
  return parts.reduce(
    (sum, part) => ({
      shards: sum.shards + part.shards,
      rows: sum.rows + part.rows,
      tokens: sum.tokens + part.tokens,
      bytes: sum.bytes + part.bytes,
    }),
    { shards: 0, rows: 0, tokens: 0, bytes: 0 },
  );
}
