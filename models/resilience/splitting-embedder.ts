/** Handles exhausted device memory: the batch is halved, down to one row, and the size that failed is remembered. */
import type { Logger } from "pino";
import { type BatchReport, type RowRef, rowLength } from "../../src/core/batch.ts";
import { hasCode } from "../../src/core/errors.ts";
import type { Embedder } from "../../src/core/ports.ts";
import type { Observe } from "../../src/core/telemetry.ts";

export class SplittingEmbedder implements Embedder {
  readonly #embedder: Embedder;
  readonly #observe: Observe;
  readonly #log: Logger;
  #maxBatchTokens = Infinity;

  constructor(params: Readonly<{ embedder: Embedder; observe: Observe; log: Logger }>) {
    this.#embedder = params.embedder;
    this.#observe = params.observe;
    this.#log = params.log;
  }

  get device(): string {
    return this.#embedder.device;
  }

  /** Largest padded area that has not failed, for the packer to plan with. A single row may exceed it. */
  get maxBatchTokens(): number {
    return this.#maxBatchTokens;
  }

  paddedLength(longest: number): number {
    return this.#embedder.paddedLength(longest);
  }

  /** @throws FleetError `device_memory` when a single row does not fit. */
  async embed(params: Readonly<{ rows: readonly RowRef[] }>): Promise<BatchReport> {
    const { rows } = params;
    const area = rows.length * this.paddedLength(Math.max(...rows.map(rowLength)));
    if (rows.length > 1 && area > this.#maxBatchTokens) return this.#embedHalves(rows);
    try {
      return await this.#embedder.embed(params);
    } catch (error) {
      if (!hasCode(error, "device_memory") || rows.length === 1) throw error;
      this.#remember(rows.length, area);
      return this.#embedHalves(rows);
    }
  }

  #remember(rows: number, area: number): void {
    this.#observe({ kind: "oom-split", rows, paddedTokens: area });
    this.#maxBatchTokens = Math.min(this.#maxBatchTokens, Math.floor(area / 2));
    this.#log.warn(
      { device: this.device, rows, paddedTokens: area, maxBatchTokens: this.#maxBatchTokens },
      "a batch did not fit the device's memory; it is halved, and batches stay that small",
    );
  }

  async #embedHalves(rows: readonly RowRef[]): Promise<BatchReport> {
    const middle = Math.ceil(rows.length / 2);
    const first = await this.embed({ rows: rows.slice(0, middle) });
    const second = await this.embed({ rows: rows.slice(middle) });
    return { startedAtMs: first.startedAtMs, finishedAtMs: second.finishedAtMs };
  }

  close(): Promise<void> {
    return this.#embedder.close();
  }
}
