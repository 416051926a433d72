/** View of the nightly schedules for the control plane, whatever implements them. */

export interface ScheduleView {
  readonly name: string;
  /** Cron pattern and its time zone. */
  readonly pattern: string;
  readonly timezone: string;
  /** ISO times; null when there is none. */
  readonly nextAt: string | null;
  readonly lastAt: string | null;
  /** The run of the last tick. */
  readonly lastRun: string | null;
  /** Why the last tick failed; null when it did not. */
  readonly problem: string | null;
}

export interface Schedules {
  list(): Promise<readonly ScheduleView[]>;
  /** Runs the schedule now. @returns The run that it creates. */
  trigger(params: Readonly<{ name: string }>): Promise<{ readonly run: string }>;
}
