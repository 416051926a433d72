/** Everything that a run's report shows, from the plan, the manifest and the last bytes of each result file. */
import { decodeResultStats, RESULT_END_BYTES } from "../arrow/results.ts";
import type { Reject, ShardPlan, ShardStats } from "../core/contracts.ts";
import { runKeys } from "../core/layout.ts";
import type { ObjectStore } from "../core/ports.ts";
import { emptyLengths, LENGTH_BOUNDS, lengthBucket } from "../core/worker-state.ts";
import { mapConcurrent } from "../run/map-concurrent.ts";
import { readProgress, type RunReport } from "../run/run-progress.ts";
import { listRejects } from "../run/read-lists.ts";
import { listData, readRun, readWindows } from "../run/read-plan.ts";
import { type Busy, Timeline } from "./timeline.ts";

const READS_IN_FLIGHT = 16;
const SLOWEST = 12;
const SHOWN_REJECTS = 50;
const UNKNOWN_WORKER = "unknown";

export interface WorkerFigures {
  readonly worker: string;
  readonly shards: number;
  readonly rows: number;
  readonly realTokens: number;
  readonly paddedTokens: number;
  readonly deviceMs: number;
}

export interface SlowShard {
  readonly shard: string;
  readonly worker: string;
  readonly rows: number;
  readonly tokens: number;
  readonly longest: number;
  readonly deviceMs: number;
  readonly tokensPerSecond: number;
}

export interface LengthFigures {
  /** Upper bound in tokens; null for rows longer than every bound. */
  readonly upTo: number | null;
  readonly rows: number;
  readonly realTokens: number;
  readonly paddedTokens: number;
  readonly deviceMs: number;
}

export interface ReportFigures {
  readonly report: RunReport;
  readonly createdAt: string;
  readonly inputs: readonly string[];
  readonly model: { readonly id: string; readonly revision: string; readonly dim: number };
  readonly heads: readonly string[];
  readonly store: string;
  /** Figures by the mean row length of each shard, whose rows are of nearly equal length. */
  readonly lengths: readonly LengthFigures[];
  readonly workers: readonly WorkerFigures[];
  readonly timeline: Busy | null;
  /** Milliseconds per stage, summed over shards; `infer` is the device's. */
  readonly stages: Readonly<Record<string, number>>;
  readonly slowest: readonly SlowShard[];
  readonly rejectsByReason: Readonly<Record<string, number>>;
  readonly rejects: readonly Reject[];
}

interface Measured {
  readonly plan: ShardPlan;
  readonly stats: ShardStats;
}

/** Collects a run's figures. @throws FleetError `run_unknown`, `object_corrupt` */
export async function collectFigures(
  params: Readonly<{ store: ObjectStore; run: string; onShard?: (done: number, planned: number) => void }>,
): Promise<ReportFigures> {
  const { store, run } = params;
  const record = await readRun(store, run);
  const report = await readProgress({ store, run, queue: null });
  const tally = new Tally();
  for await (const measured of measuredShards(store, run)) {
    tally.add(measured);
    params.onShard?.(tally.shards, report.shards);
  }
  const { rejects, rejectsByReason } = await countRejects(store, run);
  const { model, heads } = record.options;
  return {
    report,
    createdAt: record.createdAt,
    inputs: record.inputs,
    model: { id: model.id, revision: model.revision, dim: model.dim },
    heads,
    store: store.url,
    ...tally.figures(),
    rejectsByReason,
    rejects,
  };
}

/** Completed shards in planned order, with the figures in their files. */
async function* measuredShards(store: ObjectStore, run: string): AsyncGenerator<Measured> {
  const done = await listData(store, run);
  async function* plans(): AsyncGenerator<ShardPlan> {
    for await (const window of readWindows(store, run)) {
      for (const plan of window.shards) if (done.has(runKeys(run).data(plan.shard))) yield plan;
    }
  }
  yield* mapConcurrent(plans(), READS_IN_FLIGHT, async (plan) => {
    const key = runKeys(run).data(plan.shard);
    const bytes = done.get(key)!;
    const range = { start: Math.max(0, bytes - RESULT_END_BYTES), end: bytes };
    return { plan, stats: decodeResultStats({ run, shard: plan.shard, end: await store.read({ key, range }) }) };
  });
}

class Tally {
  shards = 0;
  readonly #lengths = emptyLengths().map(() => ({ rows: 0, realTokens: 0, paddedTokens: 0, deviceMs: 0 }));
  readonly #workers = new Map<string, { -readonly [K in keyof WorkerFigures]: WorkerFigures[K] }>();
  readonly #stages: Record<string, number> = {};
  readonly #timeline = new Timeline();
  #slowest: SlowShard[] = [];

  add({ plan, stats }: Measured): void {
    this.shards++;
    const length = this.#lengths[lengthBucket(plan.tokens / plan.rows)]!;
    for (const sum of [length, this.#worker(stats.made?.worker ?? UNKNOWN_WORKER)]) {
      sum.rows += stats.rows;
      sum.realTokens += stats.realTokens;
      sum.paddedTokens += stats.paddedTokens;
      sum.deviceMs += stats.deviceMs;
    }
    this.#addStages(stats);
    if (stats.made !== undefined) this.#timeline.add({ ...stats.made, deviceMs: stats.deviceMs });
    this.#addSlow(plan, stats);
  }

  #worker(worker: string): { -readonly [K in keyof WorkerFigures]: WorkerFigures[K] } {
    const sum = this.#workers.get(worker) ?? {
      worker,
      shards: 0,
      rows: 0,
      realTokens: 0,
      paddedTokens: 0,
      deviceMs: 0,
    };
    sum.shards++;
    this.#workers.set(worker, sum);
    return sum;
  }

  #addStages({ deviceMs, idle, made }: ShardStats): void {
    const times = { load: made?.loadMs, infer: deviceMs, assemble: made?.assembleMs };
    for (const [stage, ms] of Object.entries(times)) this.#stages[stage] = (this.#stages[stage] ?? 0) + (ms ?? 0);
    for (const [cause, ms] of Object.entries(idle ?? {})) {
      const name = `device waits: ${cause}`;
      this.#stages[name] = (this.#stages[name] ?? 0) + ms;
    }
  }

  /** Keeps the shards that took longest on the device, relative to their rows. */
  #addSlow(plan: ShardPlan, stats: ShardStats): void {
    const { shard, rows, tokens, longest } = plan;
    const tokensPerSecond = tokens / Math.max(stats.deviceMs / 1000, 1e-9);
    const worker = stats.made?.worker ?? UNKNOWN_WORKER;
    this.#slowest.push({ shard, worker, rows, tokens, longest, deviceMs: stats.deviceMs, tokensPerSecond });
    this.#slowest = this.#slowest.sort((a, b) => b.deviceMs - a.deviceMs).slice(0, SLOWEST);
  }

  figures(): Pick<ReportFigures, "lengths" | "workers" | "timeline" | "stages" | "slowest"> {
    return {
      lengths: this.#lengths.map((sums, i) => ({ upTo: LENGTH_BOUNDS[i] ?? null, ...sums })),
      workers: [...this.#workers.values()].sort((a, b) => b.realTokens - a.realTokens),
      timeline: this.#timeline.busy(),
      stages: this.#stages,
      slowest: this.#slowest,
    };
  }
}

async function countRejects(
  store: ObjectStore,
  run: string,
): Promise<Pick<ReportFigures, "rejects" | "rejectsByReason">> {
  const rejectsByReason: Record<string, number> = {};
  const rejects: Reject[] = [];
  for await (const list of listRejects(store, run)) {
    for (const reject of list) {
      rejectsByReason[reject.reason] = (rejectsByReason[reject.reason] ?? 0) + 1;
      if (rejects.length < SHOWN_REJECTS) rejects.push(reject);
    }
  }
  return { rejects, rejectsByReason };
}
