/** What is broken on purpose, to see that the simulation sees it. */
export interface Sabotage {
  /** `create` replaces what is there. */
  readonly overwrites?: boolean;
  /** `create` says that it stored an object, and sometimes did not. */
  readonly forgets?: boolean;
  /** Attempts of a shard share one name for their rejects. */
  readonly sharesRejects?: boolean;
  /** The queue takes a job for completed as soon as a worker has it, and nothing reconciles the queue. */
  readonly completesFirst?: boolean;
  /** Nothing looks for lost jobs. */
  readonly neverTends?: boolean;
  /** The last window's plan is gone as soon as the plan is closed. */
  readonly losesAPlan?: boolean;
  /** Who reconciles takes the windows that it finds for all that were planned, whatever the closed plan says. */
  readonly sealsFromListing?: boolean;
  /** A worker takes a shard for complete when the first of its batches is done. */
  readonly commitsEarly?: boolean;
  /** A worker never hears that a row is done, and waits for it. */
  readonly losesARow?: boolean;
  /** A worker's loader throws for the first shard: a mistake in a program, or that mistake taken for an outage. */
  readonly brokenLoader?: "mistake" | "taken-for-outage";
}
