/**
 * Prevents producers from filling Redis. At its memory limit Redis refuses new leases and their renewal along
 * with new jobs, so a producer that runs ahead would stop the very workers that free memory.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "pino";
import type { QueueGauge, QueueLoad } from "../src/core/ports.ts";
import { nowMs, type Observe } from "../src/core/telemetry.ts";

/** Redis memory of one job in bytes: about 1,000 measured, and half as much again for buffers and the event stream. */
const BYTES_PER_JOB = 1500;
/** Share of the server's memory limit for jobs; the rest is for leases, events and other clients. */
const MEMORY_SHARE = 0.6;
/** Share of either limit above which each window waits, in proportion to the excess. */
const SLOW_FROM = 0.8;
/** A paused producer resumes below this share, so that it does not pause again at once. */
const GO_ON_BELOW = 0.9;
const CHECK_INTERVAL_MS = 1000;
/** Pause before a window just below the limit, in check intervals. */
const LONGEST_PAUSE_CHECKS = 5;

export interface BackpressureParams {
  readonly gauge: QueueGauge;
  /** Maximum number of jobs waiting or active. */
  readonly maxBacklog: number;
  readonly log: Logger;
  readonly observe: Observe;
  readonly checkIntervalMs?: number;
}

interface Fullness {
  /** Load as a share of the limit, 1 at the limit. */
  readonly share: number;
  readonly limit: "backlog" | "redis-memory";
  readonly reason: string;
}

export class Backpressure {
  readonly #params: BackpressureParams;
  #waitsFor: string | null = null;

  constructor(params: BackpressureParams) {
    this.#params = params;
  }

  /** The reason why the producer waits; null while it plans. */
  get waitsFor(): string | null {
    return this.#waitsFor;
  }

  /**
   * Resolves when this many more jobs fit. Called before a window is planned, since anyone may queue a planned one.
   *
   * @param params.signal Aborts the wait with its reason.
   */
  async untilRoom(params: Readonly<{ jobs: number; signal?: AbortSignal | undefined }>): Promise<void> {
    const { log } = this.#params;
    const { jobs, signal } = params;
    let full = await this.#fullness(jobs);
    if (full.share <= SLOW_FROM) return;
    if (full.share < 1) {
      await this.#wait((LONGEST_PAUSE_CHECKS * (full.share - SLOW_FROM)) / (1 - SLOW_FROM), full, signal);
      return;
    }
    const startedMs = nowMs();
    log.warn({ reason: full.reason }, "planning waits for the workers");
    try {
      for (; full.share >= GO_ON_BELOW; full = await this.#fullness(jobs)) {
        this.#waitsFor = full.reason;
        await this.#wait(1, full, signal);
      }
    } finally {
      this.#waitsFor = null;
    }
    log.info({ waitedMs: Math.round(nowMs() - startedMs) }, "planning continues");
  }

  async #wait(checks: number, { limit }: Fullness, signal: AbortSignal | undefined): Promise<void> {
    const startedMs = nowMs();
    const durationMs = checks * (this.#params.checkIntervalMs ?? CHECK_INTERVAL_MS);
    await sleep(durationMs, undefined, { signal }).catch(() => signal?.throwIfAborted());
    this.#params.observe({ kind: "backpressure", limit, durationMs: nowMs() - startedMs });
  }

  async #fullness(jobs: number): Promise<Fullness> {
    const load = await this.#params.gauge.load();
    // An empty queue accepts a window of any size; otherwise one larger than the limit would wait for ever.
    const added = load.jobs === 0 ? 0 : jobs;
    const backlog = backlogOf(load, added, this.#params.maxBacklog);
    const memory = memoryOf(load, added);
    return memory !== null && memory.share > backlog.share ? memory : backlog;
  }
}

function backlogOf(load: QueueLoad, added: number, maxBacklog: number): Fullness {
  const reason = `${load.jobs} jobs are queued and --max-backlog is ${maxBacklog}`;
  return { share: load.jobs === 0 ? 0 : (load.jobs + added) / maxBacklog, limit: "backlog", reason };
}

function memoryOf({ usedBytes, limitBytes }: QueueLoad, added: number): Fullness | null {
  if (limitBytes === null) return null;
  const used = (usedBytes + added * BYTES_PER_JOB) / limitBytes;
  const percent = Math.round((usedBytes / limitBytes) * 100);
  const reason = `Redis is ${percent} % full and its maxmemory is ${limitBytes} bytes`;
  return { share: used / MEMORY_SHARE, limit: "redis-memory", reason };
}
