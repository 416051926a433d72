/**
 * Names and priorities of the queues that producers and workers share. In Redis every name begins with the id of the
 * store, so that stores on one server never get each other's jobs.
 */

export const QUEUE_PREFIX = "embedfleet";
export const JOB_NAME = "shard";

/** Name in Redis of what belongs to a fleet and a store. Every other name in Redis is made from it. */
export function fleetInRedis(store: string, fleet: string): string {
  return `${store}-${fleet}`;
}

/** One queue per fleet and model. */
export function queueName(fleet: string, model: string): string {
  return plainName(`${fleet}-${model}`);
}

/** Name prefix of all queues of a fleet; another fleet's name may begin with it, too. */
export function queueNamePrefix(fleet: string): string {
  return queueName(fleet, "");
}

/** Name of the queue of a fleet's schedules. */
export function controlQueueName(fleet: string): string {
  return plainName(`${fleet}--backfill`);
}

/** Name of the queue of the parts of a run's corpus. */
export function partsQueueName(fleet: string, run: string): string {
  return plainName(`${fleet}--parts-${run}`);
}

/** BullMQ allows no colon in a queue's name. */
function plainName(name: string): string {
  return name.replaceAll(/[^A-Za-z0-9_.-]/g, "_");
}

/** Prefix of all keys of a queue. */
export function queueBase(queue: string): string {
  return `${QUEUE_PREFIX}:${queue}:`;
}

/** Priority by length, longest rows first: the largest allocation comes first, and no long job is left for the end. */
export function jobPriority(longestTokens: number): number {
  const maxPriority = 2_097_151;
  return Math.max(1, maxPriority - longestTokens);
}

/** Key under which a queue's workers report their state. */
export function workersKey(queue: string): string {
  return `${QUEUE_PREFIX}:${queue}:workers`;
}

/** Key that shows that one of the workers reconciles the fleet's runs. */
export function turnKey(queue: string): string {
  return `${QUEUE_PREFIX}:${queue}:turn`;
}

/** Key of the set of runs that are being planned. */
export function producersKey(queue: string): string {
  return `${QUEUE_PREFIX}:${queue}:producers`;
}
