/** State that a worker reports, for `status` and the dashboard. It crosses Redis, so it has a schema. */
import { z } from "zod";
import type { Presence } from "./ports.ts";

const figure = z.number().min(0);
/** Longest reason in a worker's report on its store, in UTF-16 code units. */
export const MAX_REASON_CHARS = 512;

export const workerStateSchema = z.object({
  name: z.string().max(256),
  device: z.string().max(64),
  model: z.string().max(256),
  startedAt: z.iso.datetime(),
  rows: figure,
  shards: figure,
  rejects: figure,
  batches: figure,
  realTokens: figure,
  paddedTokens: figure,
  /** Rate over the last minute. */
  tokensPerSecond: figure,
  /** Ratio over the last minute; null when nothing ran in it. */
  deviceBusyRatio: figure.nullable(),
  /** The runs whose rows it computed in the last minute, with its rate for each. */
  runs: z.array(z.object({ run: z.string().max(64), tokensPerSecond: figure })).max(64),
  lastBatch: z.object({ rows: figure, longestTokens: figure, endedAtMs: figure }).nullable(),
  /** Seconds by stage since the worker started. */
  stageSeconds: z.record(z.string().max(32), figure),
  /** Number of rows by length between `LENGTH_BOUNDS`; the last entry is for longer ones. */
  rowsByLength: z.array(figure).max(64),
  residentBytes: figure,
  /** Start of the current store trouble, which returns jobs to the queue, and the last reason; null without. Older workers omit it. */
  storeTrouble: z
    .object({ since: z.iso.datetime(), reason: z.string().max(MAX_REASON_CHARS) })
    .nullable()
    .optional(),
});
/** State that a producer reports. */
export const producerStateSchema = z.object({
  /** Why planning waits for the workers; null while it does not wait. */
  waitsFor: z.string().max(256).nullable(),
});
export type ProducerState = z.infer<typeof producerStateSchema>;

export type WorkerState = z.infer<typeof workerStateSchema>;

/** Workers present whose reports can be read, by name. */
export async function readWorkers(presence: Presence): Promise<WorkerState[]> {
  const states = await presence.states();
  return [...states.values()]
    .flatMap((state) => {
      const parsed = workerStateSchema.safeParse(state);
      return parsed.success ? [parsed.data] : [];
    })
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** Reasons for which planning waits, by run, from the producers that wait. */
export async function readPlanningWaits(presence: Presence): Promise<Map<string, string>> {
  const states = await presence.states();
  const waits = [...states].flatMap(([run, state]): [string, string][] => {
    const parsed = producerStateSchema.safeParse(state);
    return parsed.success && parsed.data.waitsFor !== null ? [[run, parsed.data.waitsFor]] : [];
  });
  return new Map(waits);
}

/** Upper bounds of the length buckets, in tokens. */
export const LENGTH_BOUNDS = [32, 64, 128, 256, 512, 1024, 2048, 4096, 8192] as const;

/** Index of a length in `LENGTH_BOUNDS`; one past the last for longer ones. */
export function lengthBucket(tokens: number): number {
  const at = LENGTH_BOUNDS.findIndex((bound) => tokens <= bound);
  return at < 0 ? LENGTH_BOUNDS.length : at;
}

export function emptyLengths(): number[] {
  return Array.from({ length: LENGTH_BOUNDS.length + 1 }, () => 0);
}
