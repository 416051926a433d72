/** Control's latest snapshot of the fleet, the source of the dashboard, the API and the metrics. */
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
  /** True for a run of this fleet that is neither sealed nor cancelled. */
  readonly isActive: boolean;
  /** Number of planned rows per length bucket of `LENGTH_BOUNDS`; empty once the run is sealed. */
  readonly rowsByLength: readonly number[];
}

export interface QueueView {
  readonly name: string;
  readonly counts: QueueCounts;
  /** Planned tokens of the active runs that are not in the store. */
  readonly tokens: number;
  readonly workers: number;
  readonly producers: readonly string[];
}

export interface WorkerView extends WorkerState {
  readonly queue: string;
}

/** A run whose objects are invalid. It does not affect the others. */
export interface DamagedRun {
  readonly run: string;
  readonly problem: string;
}

export interface FleetSnapshot {
  /** ISO time of the snapshot. */
  readonly at: string;
  readonly fleet: string;
  readonly store: string;
  readonly version: string;
  /** Runs: active ones first, of these the ones with failed jobs; then the latest. */
  readonly runs: readonly RunView[];
  readonly workers: readonly WorkerView[];
  readonly queues: readonly QueueView[];
  readonly schedules: readonly ScheduleView[];
  /** Runs in the store that cannot be read. */
  readonly damaged: readonly DamagedRun[];
  /** Data that control could not read, one sentence each. */
  readonly problems: readonly string[];
}

/** One point of the dashboard's charts. */
export interface Sample {
  readonly at: string;
  readonly tokensPerSecond: Readonly<Record<string, number>>;
}
