/**
 * Replaces a failing device by the CPU, and retries the device from time to time. The batch that failed
 * runs on the CPU too, so only speed is lost.
 */
import {
  BrokenCircuitError,
  circuitBreaker,
  type CircuitBreakerPolicy,
  ConsecutiveBreaker,
  ExponentialBackoff,
  handleAll,
} from "cockatiel";
import type { Logger } from "pino";
import type { BatchReport, RowRef } from "../../src/core/batch.ts";
import { messageOf } from "../../src/core/errors.ts";
import type { Embedder } from "../../src/core/ports.ts";
import type { Observe } from "../../src/core/telemetry.ts";

export interface FallbackParams {
  readonly primary: Embedder;
  /** Opens the device again; called after its last session has ended for good. */
  readonly reopen: () => Promise<Embedder>;
  /** Opens the CPU's session, which costs memory only once it is needed. */
  readonly openFallback: () => Promise<Embedder>;
  readonly observe: Observe;
  readonly log: Logger;
  /** Number of consecutive failures after which the device is no longer used. */
  readonly maxFailures?: number;
  /** Milliseconds before the device is retried; doubles with each failure. */
  readonly retryAfterMs?: number;
  readonly maxRetryAfterMs?: number;
}

const DEFAULT_MAX_FAILURES = 3;
const DEFAULT_RETRY_AFTER_MS = 10_000;
const DEFAULT_MAX_RETRY_AFTER_MS = 10 * 60_000;

export class FallbackEmbedder implements Embedder {
  readonly #params: FallbackParams;
  readonly #breaker: CircuitBreakerPolicy;
  readonly #name: string;
  #primary: Embedder;
  #needsReopening = false;
  #fallback: Promise<Embedder> | null = null;
  #isOpen = false;

  constructor(params: FallbackParams) {
    this.#params = params;
    this.#primary = params.primary;
    this.#name = params.primary.device;
    this.#breaker = circuitBreaker(handleAll, {
      breaker: new ConsecutiveBreaker(params.maxFailures ?? DEFAULT_MAX_FAILURES),
      halfOpenAfter: new ExponentialBackoff({
        initialDelay: params.retryAfterMs ?? DEFAULT_RETRY_AFTER_MS,
        maxDelay: params.maxRetryAfterMs ?? DEFAULT_MAX_RETRY_AFTER_MS,
      }),
    });
    this.#breaker.onBreak(() => this.#say("open", "the device fails repeatedly; the CPU replaces it"));
    this.#breaker.onHalfOpen(() => this.#say("half-open", "the device is being retried"));
    this.#breaker.onReset(() => this.#say("closed", "the device works again"));
  }

  /** The device that batches run on now. */
  get device(): string {
    return this.#isOpen ? "cpu" : this.#name;
  }

  paddedLength(longest: number): number {
    return this.#primary.paddedLength(longest);
  }

  /** @throws Errors of the CPU's session. */
  async embed(params: Readonly<{ rows: readonly RowRef[] }>): Promise<BatchReport> {
    try {
      return await this.#breaker.execute(() => this.#embedOnDevice(params));
    } catch (error) {
      if (!(error instanceof BrokenCircuitError)) this.#sayFallback(error);
      return (await this.#cpu()).embed(params);
    }
  }

  async #embedOnDevice(params: Readonly<{ rows: readonly RowRef[] }>): Promise<BatchReport> {
    if (this.#needsReopening) {
      this.#primary = await this.#params.reopen();
      this.#needsReopening = false;
    }
    return this.#primary.embed(params);
  }

  #cpu(): Promise<Embedder> {
    this.#fallback ??= this.#params.openFallback();
    this.#fallback.catch(() => (this.#fallback = null));
    return this.#fallback;
  }

  #sayFallback(error: unknown): void {
    const reason = messageOf(error);
    this.#params.observe({ kind: "fallback", from: this.#name, to: "cpu", reason });
    this.#params.log.warn({ from: this.#name, to: "cpu", reason }, "a batch failed on the device and runs on the CPU");
  }

  #say(state: "open" | "half-open" | "closed", message: string): void {
    this.#isOpen = state !== "closed";
    // After so many failures, or the death of its thread, a session is not retried.
    if (state === "open" && !this.#needsReopening) {
      this.#needsReopening = true;
      void this.#primary.close().catch(() => {});
    }
    this.#params.observe({ kind: "breaker", name: this.#name, state });
    this.#params.log[state === "closed" ? "info" : "warn"]({ device: this.#name, state }, message);
  }

  async close(): Promise<void> {
    if (!this.#needsReopening) await this.#primary.close();
    await this.#fallback?.then((cpu) => cpu.close()).catch(() => {});
  }
}
