/**
 * Keeps producers from filling Redis. At its memory limit Redis refuses new leases and their renewal along
 * with new jobs, so a producer that runs ahead would stop the very workers that make room.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "pino";
import type { QueueGauge, QueueLoad } from "../src/core/ports.ts";
import { nowMs, type Observe } from "../src/core/telemetry.ts";

/** Redis memory of one job: about 1,000 bytes measured, and half as much again for buffers and the event stream. */
const BYTES_PER_JOB = 1500;
/** Share of the server's memory limit that jobs may use; the rest is for leases, events and other clients. */
const MEMORY_SHARE = 0.6;
/** Share of either limit from which on each window waits, in proportion to the excess. */
const SLOW_FROM = 0.8;
/** A producer that stopped goes on below this, so that it does not stop again at once. */
const GO_ON_BELOW = 0.9;
const CHECK_INTERVAL_MS = 1000;
/** Pause before a window just below the limit, in check intervals. */
const LONGEST_PAUSE_CHECKS = 5;

export interface BackpressureParams {
  readonly gauge: QueueGauge;
  /** Jobs waiting or active. */
  readonly maxBacklog: number;
  readonly log: Logger;
  readonly observe: Observe;
  readonly checkIntervalMs?: number;
}

interface Fullness {
  /** 1 at the limit. */
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
   * Resolves when that many jobs more have room. To be asked before a window is planned: what is planned, anyone may queue.
   *
   * @param params.signal Ends the waiting with its reason.
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
    log.info({ waitedMs: Math.round(nowMs() - startedMs) }, "planning goes on");
  }

  async #wait(checks: number, { limit }: Fullness, signal: AbortSignal | undefined): Promise<void> {
    const startedMs = nowMs();
    const durationMs = checks * (this.#params.checkIntervalMs ?? CHECK_INTERVAL_MS);
    await sleep(durationMs, undefined, { signal }).catch(() => signal?.throwIfAborted());
    this.#params.observe({ kind: "backpressure", limit, durationMs: nowMs() - startedMs });
  }

  async #fullness(jobs: number): Promise<Fullness> {
    const load = await this.#params.gauge.load();
    // An empty queue takes a window of any size, or one larger than the limit would wait for ever.
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
