/** A device with a watchdog: one that owes an answer for too long counts as hung, and is given up. */
import type { BatchReport, RowRef } from "../src/core/batch.ts";
import { FleetError } from "../src/core/errors.ts";
import type { Embedder } from "../src/core/ports.ts";
import type { Heartbeat } from "../src/core/heartbeat.ts";

interface Owed {
  readonly rows: number;
  readonly giveUp: (fault: FleetError) => void;
}

export class WatchedEmbedder implements Embedder {
  readonly #embedder: Embedder;
  readonly #heartbeat: Heartbeat;
  readonly #owed = new Set<Owed>();
  #timer: NodeJS.Timeout | undefined;
  #fault: FleetError | null = null;

  constructor(params: Readonly<{ embedder: Embedder; heartbeat: Heartbeat }>) {
    this.#embedder = params.embedder;
    this.#heartbeat = params.heartbeat;
  }

  get device(): string {
    return this.#embedder.device;
  }

  paddedLength(longest: number): number {
    return this.#embedder.paddedLength(longest);
  }

  /** Computes rows. @throws FleetError `inference_hung` for every batch on the device when it hangs. */
  async embed(params: Readonly<{ rows: readonly RowRef[] }>): Promise<BatchReport> {
    if (this.#fault !== null) throw this.#fault;
    let owed: Owed | undefined;
    const hung = new Promise<never>((_, giveUp) => (owed = { rows: params.rows.length, giveUp }));
    // A busy device owes its answer since it started, not since now.
    if (this.#owed.size === 0) this.#watch();
    this.#owed.add(owed!);
    try {
      return await Promise.race([this.#embedder.embed(params), hung]);
    } finally {
      this.#owed.delete(owed!);
      // A hung device is not idle: its heartbeat stops, so that no lease is renewed.
      if (this.#fault === null) this.#answered();
    }
  }

  #watch(): void {
    this.#heartbeat.deviceWorks();
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      // If this thread was blocked, the answer may already be queued, and is processed first.
      const timer = this.#timer;
      setImmediate(() => timer === this.#timer && this.#giveUp());
    }, this.#heartbeat.maxSilentMs);
  }

  #answered(): void {
    if (this.#owed.size > 0) return this.#watch();
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#heartbeat.deviceRests();
  }

  #giveUp(): void {
    const rows = [...this.#owed].reduce((sum, owed) => sum + owed.rows, 0);
    const seconds = this.#heartbeat.maxSilentMs / 1000;
    this.#fault = new FleetError(
      "inference_hung",
      `${this.device} has not answered for ${seconds} seconds, with ${rows} rows on it`,
      {
        cure: "the device or its driver hangs; if it is only slow, raise --max-batch-seconds or lower --max-batch-tokens",
      },
    );
    for (const { giveUp } of this.#owed) giveUp(this.#fault);
  }

  async close(): Promise<void> {
    clearTimeout(this.#timer);
    await this.#embedder.close();
  }
}
