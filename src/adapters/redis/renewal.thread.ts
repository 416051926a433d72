/** Thread that renews a worker's leases independently of the main thread. */
import { parentPort, workerData } from "node:worker_threads";
import { Queue } from "bullmq";
import { messageOf } from "../../core/errors.ts";
import { Heartbeat, type HeartbeatParams } from "../../core/heartbeat.ts";
import { ANSWER_TIMEOUT_MS, connectRedis } from "./connect.ts";
import { QUEUE_PREFIX } from "./queue-options.ts";
import { repeat } from "./repeat.ts";

export interface RenewalParams {
  readonly redisUrl: string;
  readonly name: string;
  readonly lockDurationMs: number;
  readonly intervalMs: number;
  readonly heartbeat: Required<HeartbeatParams>;
}

/** A lease that was taken, or settled. */
export type LeaseChange =
  | { readonly kind: "held"; readonly id: string; readonly token: string }
  | { readonly kind: "settled"; readonly id: string };

export type RenewalNotice =
  | { readonly kind: "ready" }
  | { readonly kind: "renewed"; readonly count: number }
  | { readonly kind: "lost"; readonly count: number; readonly jobs: readonly string[] }
  | { readonly kind: "failed"; readonly count: number; readonly reason: string }
  /** The process shows no sign of life, so its leases are left to lapse. */
  | { readonly kind: "silent"; readonly count: number; readonly silentMs: number };

const { redisUrl, name, lockDurationMs, intervalMs, heartbeat: pulseParams } = workerData as RenewalParams;
const port = parentPort!;
const heartbeat = new Heartbeat(pulseParams);
const leases = new Map<string, string>();
let isSilent = false;
// A lease outlives two renewals: the second must not wait for a dead connection.
const redis = connectRedis(redisUrl, { answerTimeoutMs: Math.min(ANSWER_TIMEOUT_MS, intervalMs) });
const queue = new Queue(name, { connection: redis, prefix: QUEUE_PREFIX });
// ioredis reconnects by itself; the renewal reports failures meanwhile.
queue.on("error", () => {});

function say(notice: RenewalNotice): void {
  port.postMessage(notice);
}

async function renew(): Promise<void> {
  const held = [...leases];
  if (held.length === 0) return;
  if (!heartbeat.isAlive) {
    if (!isSilent) say({ kind: "silent", count: held.length, silentMs: Math.round(heartbeat.silentMs) });
    isSilent = true;
    return;
  }
  isSilent = false;
  try {
    const ids = held.map(([id]) => id);
    const tokens = held.map(([, token]) => token);
    const lost = await queue.getBackend().extendLocks(ids, tokens, lockDurationMs);
    // Leases settled during the call are not lost.
    const jobs = lost.filter((id) => leases.has(id));
    say({ kind: "renewed", count: held.length - lost.length });
    if (jobs.length > 0) say({ kind: "lost", count: jobs.length, jobs });
  } catch (error) {
    say({ kind: "failed", count: held.length, reason: messageOf(error) });
  }
}

port.on("message", (change: LeaseChange) => {
  if (change.kind === "held") leases.set(change.id, change.token);
  else leases.delete(change.id);
});
repeat(renew, intervalMs);
say({ kind: "ready" });
