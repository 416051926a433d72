/** Recomputes rows with non-finite vectors once, at higher precision, before they are given up. */
import type { Logger } from "pino";
import { BROKEN, type BatchReport, type RowRef } from "../../src/core/batch.ts";
import type { Embedder } from "../../src/core/ports.ts";
import type { Observe } from "../../src/core/telemetry.ts";

export interface RecomputingParams {
  readonly embedder: Embedder;
  readonly precision: string;
  /** Opens the more precise session, which costs memory only once it is needed. */
  readonly openExact: () => Promise<Embedder>;
  readonly observe: Observe;
  readonly log: Logger;
}

export class RecomputingEmbedder implements Embedder {
  readonly #params: RecomputingParams;
  #exact: Promise<Embedder> | null = null;

  constructor(params: RecomputingParams) {
    this.#params = params;
  }

  get device(): string {
    return this.#params.embedder.device;
  }

  paddedLength(longest: number): number {
    return this.#params.embedder.paddedLength(longest);
  }

  async embed(params: Readonly<{ rows: readonly RowRef[] }>): Promise<BatchReport> {
    const report = await this.#params.embedder.embed(params);
    const rows = params.rows.filter(({ shard, row }) => shard.broken[row] === BROKEN.nonFinite);
    if (rows.length === 0) return report;
    for (const { shard, row } of rows) shard.broken[row] = 0;
    const again = await (await this.#open()).embed({ rows });
    const mended = rows.filter(({ shard, row }) => shard.broken[row] === 0).length;
    this.#say(rows.length, mended);
    return { startedAtMs: report.startedAtMs, finishedAtMs: again.finishedAtMs };
  }

  #open(): Promise<Embedder> {
    this.#exact ??= this.#params.openExact();
    this.#exact.catch(() => (this.#exact = null));
    return this.#exact;
  }

  #say(rows: number, mended: number): void {
    const { observe, log, precision } = this.#params;
    observe({ kind: "fallback", from: precision, to: "fp32", reason: "vectors that are not finite" });
    log.warn({ rows, mended, precision }, "vectors were not finite and were computed again in fp32");
  }

  async close(): Promise<void> {
    await this.#params.embedder.close();
    await this.#exact?.then((exact) => exact.close()).catch(() => {});
  }
}
