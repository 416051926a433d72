/** What producers and workers must agree on about the queue. */

export const QUEUE_PREFIX = "embedfleet";
export const JOB_NAME = "shard";

/** One queue per fleet and model. */
export function queueName(fleet: string, model: string): string {
  return plainName(`${fleet}-${model}`);
}

/** What the names of all of a fleet's queues begin with; another fleet's name may begin with it, too. */
export function queueNamePrefix(fleet: string): string {
  return queueName(fleet, "");
}

/** The queue of a fleet's schedules. */
export function controlQueueName(fleet: string): string {
  return plainName(`${fleet}--backfill`);
}

/** The queue of the parts of a run's corpus. */
export function partsQueueName(fleet: string, run: string): string {
  return plainName(`${fleet}--parts-${run}`);
}

/** BullMQ allows no colon in a queue's name. */
function plainName(name: string): string {
  return name.replaceAll(/[^A-Za-z0-9_.-]/g, "_");
}

/** What all of a queue's keys begin with. */
export function queueBase(queue: string): string {
  return `${QUEUE_PREFIX}:${queue}:`;
}

/** Longer rows first: the largest allocation comes first, and no long job is left for the end. */
export function jobPriority(longestTokens: number): number {
  const maxPriority = 2_097_151;
  return Math.max(1, maxPriority - longestTokens);
}

/** Key under which a queue's workers report their state. */
export function workersKey(queue: string): string {
  return `${QUEUE_PREFIX}:${queue}:workers`;
}

/** Key that says that one of the workers reconciles the fleet's runs. */
export function turnKey(queue: string): string {
  return `${QUEUE_PREFIX}:${queue}:turn`;
}

/** Key of the set of runs that are being planned. */
export function producersKey(queue: string): string {
  return `${QUEUE_PREFIX}:${queue}:producers`;
}
