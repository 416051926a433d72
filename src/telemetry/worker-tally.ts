/** A worker's report of its work, published with its presence. */
import { type FleetEvent, nowMs, type Observe } from "../core/telemetry.ts";
import { emptyLengths, lengthBucket, MAX_REASON_CHARS, type WorkerState } from "../core/worker-state.ts";
import { Rate } from "./rate.ts";

const MAX_RUNS = 16;
/** Milliseconds after which unrepeated trouble is over; a retry of a job is half a minute and the store's own timeouts away. */
const TROUBLE_LASTS_MS = 300_000;

/** Failures of the store at this worker. */
interface Trouble {
  readonly sinceMs: number;
  /** Time of the last failure. */
  readonly lastMs: number;
  readonly reason: string;
}

export class WorkerTally {
  readonly #who: Pick<WorkerState, "name" | "model" | "startedAt">;
  readonly #sums = { rows: 0, shards: 0, rejects: 0, batches: 0, realTokens: 0, paddedTokens: 0 };
  readonly #stageSeconds: Record<string, number> = {};
  readonly #rowsByLength = emptyLengths();
  readonly #tokens = new Rate();
  readonly #busyMs = new Rate();
  readonly #heldMs = new Rate();
  readonly #runs = new Map<string, Rate>();
  #lastBatch: WorkerState["lastBatch"] = null;
  #trouble: Trouble | null = null;

  constructor(who: Readonly<{ name: string; model: string }>) {
    this.#who = { ...who, startedAt: new Date().toISOString() };
  }

  readonly observe: Observe = (event) => {
    if (event.kind === "batch") this.#schedules(event);
    else if (event.kind === "stage") this.#addStage(event.stage, event.durationMs);
    else if (event.kind === "shard") this.#addShard();
    else if (event.kind === "store-wait") this.#waitsForStore(event.reason);
    else if (event.kind === "rejects") this.#sums.rejects += event.count;
  };

  #addStage(stage: string, durationMs: number): void {
    this.#stageSeconds[stage] = (this.#stageSeconds[stage] ?? 0) + durationMs / 1000;
  }

  #addShard(): void {
    this.#sums.shards++;
    this.#trouble = null;
  }

  #waitsForStore(reason: string): void {
    const now = nowMs();
    this.#trouble = { sinceMs: this.#currentTrouble(now)?.sinceMs ?? now, lastMs: now, reason };
  }

  #currentTrouble(now: number): Trouble | null {
    return this.#trouble !== null && now - this.#trouble.lastMs < TROUBLE_LASTS_MS ? this.#trouble : null;
  }

  #schedules(event: Extract<FleetEvent, { kind: "batch" }>): void {
    const endedAtMs = event.startedAtMs + event.deviceMs;
    this.#sums.batches++;
    this.#sums.rows += event.rowTokens.length;
    this.#sums.realTokens += event.realTokens;
    this.#sums.paddedTokens += event.paddedTokens;
    this.#addStage("infer", event.deviceMs);
    for (let row = 0; row < event.rowTokens.length; row++) this.#rowsByLength[lengthBucket(event.rowTokens[row]!)]!++;
    this.#lastBatch = { rows: event.rowTokens.length, longestTokens: event.longestTokens, endedAtMs };
    this.#tokens.add(event.realTokens, endedAtMs);
    this.#busyMs.add(event.deviceMs, endedAtMs);
    this.#heldMs.add(event.deviceMs + event.idleMs, endedAtMs);
    for (const { run, realTokens } of event.shares) this.#rateOf(run).add(realTokens, endedAtMs);
  }

  /** Rates of the most recent runs; the oldest is forgotten. */
  #rateOf(run: string): Rate {
    const rate = this.#runs.get(run) ?? new Rate();
    this.#runs.delete(run);
    this.#runs.set(run, rate);
    const [oldest] = this.#runs.keys();
    if (this.#runs.size > MAX_RUNS) this.#runs.delete(oldest!);
    return rate;
  }

  /** @param device Device on which the model runs now; it may change when a device fails. */
  state(device: string): WorkerState {
    const now = nowMs();
    const heldMs = this.#heldMs.sum(now);
    const trouble = this.#currentTrouble(now);
    return {
      ...this.#who,
      device,
      ...this.#sums,
      tokensPerSecond: round(this.#tokens.perSecond(now)),
      deviceBusyRatio: heldMs === 0 ? null : round(this.#busyMs.sum(now) / heldMs),
      runs: [...this.#runs]
        .map(([run, rate]) => ({ run, tokensPerSecond: round(rate.perSecond(now)) }))
        .filter(({ tokensPerSecond }) => tokensPerSecond > 0),
      lastBatch: this.#lastBatch,
      stageSeconds: Object.fromEntries(
        Object.entries(this.#stageSeconds).map(([stage, seconds]) => [stage, round(seconds)]),
      ),
      rowsByLength: this.#rowsByLength,
      residentBytes: process.memoryUsage.rss(),
      storeTrouble: trouble && {
        since: new Date(trouble.sinceMs).toISOString(),
        reason: trouble.reason.slice(0, MAX_REASON_CHARS),
      },
    };
  }
}

function round(value: number): number {
  return Math.round(value * 1000) / 1000;
}
