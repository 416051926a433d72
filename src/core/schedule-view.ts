/** What control needs of the nightly schedules: who keeps them is none of its business. */

export interface ScheduleView {
  readonly name: string;
  /** Cron pattern and the time zone it is read in. */
  readonly pattern: string;
  readonly timezone: string;
  /** ISO times; null when there is none. */
  readonly nextAt: string | null;
  readonly lastAt: string | null;
  /** The run that the last tick made. */
  readonly lastRun: string | null;
  /** Why the last tick failed; null when it did not. */
  readonly problem: string | null;
}

export interface Schedules {
  list(): Promise<readonly ScheduleView[]>;
  /** Runs the schedule now, as if its time had come. @returns The run it makes. */
  trigger(params: Readonly<{ name: string }>): Promise<{ readonly run: string }>;
}
