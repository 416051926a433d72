/** The fleet as control last saw it: what the dashboard, the API and the metrics are made from. */
import type { RunOptions } from "../core/contracts.ts";
import type { QueueCounts } from "../core/ports.ts";
import type { ScheduleView } from "../core/schedule-view.ts";
import type { WorkerState } from "../core/worker-state.ts";
import type { RunForecast } from "../run/run-forecast.ts";
import type { RunReport } from "../run/run-progress.ts";

export interface RunView extends RunReport, RunForecast {
  readonly createdAt: string;
  readonly inputs: readonly string[];
  readonly model: string;
  readonly heads: RunOptions["heads"];
  readonly queueName: string;
  /** Of this fleet, and neither sealed nor cancelled. */
  readonly isActive: boolean;
  /** Planned rows counted between `LENGTH_BOUNDS`; empty once the run is sealed. */
  readonly rowsByLength: readonly number[];
  /** Failed jobs of this run, as far as they were counted, and the first of them. */
  readonly failedJobs: number;
  readonly failures: readonly { readonly shard: string; readonly reason: string }[];
}

export interface QueueView {
  readonly name: string;
  readonly counts: QueueCounts;
  /** Planned and not in the store, of the active runs. */
  readonly tokens: number;
  readonly workers: number;
  readonly producers: readonly string[];
}

export interface WorkerView extends WorkerState {
  readonly queue: string;
}

/** A run whose objects cannot be understood. The others are none the worse for it. */
export interface DamagedRun {
  readonly run: string;
  readonly problem: string;
}

export interface FleetSnapshot {
  /** ISO time of the look. */
  readonly at: string;
  readonly fleet: string;
  readonly store: string;
  readonly version: string;
  /** Active ones first, then the latest. */
  readonly runs: readonly RunView[];
  readonly workers: readonly WorkerView[];
  readonly queues: readonly QueueView[];
  readonly schedules: readonly ScheduleView[];
  /** Runs that are there and cannot be read. */
  readonly damaged: readonly DamagedRun[];
  /** What control could not see, one sentence each. */
  readonly problems: readonly string[];
}

/** One point of the dashboard's charts. */
export interface Sample {
  readonly at: string;
  readonly tokensPerSecond: Readonly<Record<string, number>>;
}
