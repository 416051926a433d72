/** The whole fleet beside the session alone, on the same batches: what everything around the model costs. */
import { openMini } from "../fixtures/mini.ts";
import { runOptions } from "../fixtures/run-options.ts";
import { ThreadEmbedder } from "../../models/embedder.ts";
import { loadTokenizer } from "../../models/tokenizer.ts";
import { allocateShard, type BatchReport, type RowRef } from "../../src/core/batch.ts";
import type { Head } from "../../src/core/contracts.ts";
import type { SourceItem } from "../../src/core/documents.ts";
import type { Embedder } from "../../src/core/ports.ts";
import { barChart } from "../../src/telemetry/chart.ts";
import { type Bench, median, percent, whole } from "./bench.ts";
import { documents } from "./corpora.ts";
import { drain, openGround, openStore, plan } from "./fleet.ts";

/** Passes batches on and remembers their ids: a shard's memory is another's when its file is written. */
class Recorder implements Embedder {
  readonly batches: Int32Array[][] = [];
  readonly #inner: Embedder;

  constructor(inner: Embedder) {
    this.#inner = inner;
  }

  get device(): string {
    return this.#inner.device;
  }

  paddedLength(longest: number): number {
    return this.#inner.paddedLength(longest);
  }

  embed(params: Readonly<{ rows: readonly RowRef[] }>): Promise<BatchReport> {
    this.batches.push(params.rows.map(({ shard, row }) => shard.ids.slice(shard.offsets[row], shard.offsets[row + 1])));
    return this.#inner.embed(params);
  }

  async close(): Promise<void> {}
}

export const bench: Bench = {
  title: "Bare session: the same batches through the session alone and through the fleet",
  async run({ size }) {
    const rounds = size === "full" ? 3 : 2;
    const model = await openMini();
    const tokenizer = await loadTokenizer(model.tokenizerPath);
    const session = await ThreadEmbedder.open({ model, threads: 2 });
    const options = runOptions({ model: model.ref, heads: ["dense", "sparse"], maxTokens: 1024 });
    const texts = documents(size === "full" ? 1_200_000 : 60_000);
    const figures = [];
    const ground = await openGround();
    try {
      for (let round = 0; round <= rounds; round++) {
        const store = await openStore(`${ground.folder}/${round}`);
        const redisUrl = ground.redis.url;
        await plan({ store, redisUrl, run: "bare", options, tokenizer, items: itemsOf(texts) });
        const recorder = new Recorder(session);
        const startedMs = performance.now();
        const counts = await drain({ store, redisUrl, options, embedder: recorder, vocabSize: tokenizer.vocabSize });
        const fleetSeconds = (performance.now() - startedMs) / 1000;
        let bareMs = 0;
        for (const batch of recorder.batches) {
          const rows = rowsOf(batch, model.manifest.dim, options.heads);
          const { startedAtMs, finishedAtMs } = await session.embed({ rows });
          bareMs += finishedAtMs - startedAtMs;
        }
        // The first round warms up.
        if (round > 0) figures.push({ fleetSeconds, bareSeconds: bareMs / 1000, ...counts });
      }
    } finally {
      await session.close();
      await ground.close();
    }
    const ratio = median(figures.map(({ fleetSeconds, bareSeconds }) => bareSeconds / fleetSeconds));
    const busy = median(figures.map(({ deviceMs, idleMs }) => deviceMs / (deviceMs + idleMs)));
    return {
      figures: { ratio, busy, rounds: figures },
      tables: [
        {
          title: "Speed of the whole fleet, of the session's own",
          columns: ["measure", "median"],
          rows: [
            ["fleet / bare session", percent(ratio)],
            ["device busy while jobs were held", percent(busy)],
            ["real tokens a round", whole(figures[0]!.realTokens)],
            ["real tokens / padded area", percent(figures[0]!.realTokens / figures[0]!.paddedTokens)],
          ],
        },
      ],
      charts: {
        bare: barChart({
          title: "Seconds for the same batches (median)",
          xLabel: "seconds",
          bars: [
            ["session alone", median(figures.map((each) => each.bareSeconds))],
            ["whole fleet", median(figures.map((each) => each.fleetSeconds))],
          ],
        }),
      },
      notes: [
        `${rounds} rounds in alternation. The fleet's time is from the start of a worker, whose session is open and whose jobs are queued, to its last file; the session's is inside session.run alone.`,
      ],
    };
  },
};

function rowsOf(batch: readonly Int32Array[], dim: number, heads: readonly Head[]): RowRef[] {
  const shard = allocateShard({ lengths: batch.map(({ length }) => length), dim, heads });
  batch.forEach((ids, row) => shard.ids.set(ids, shard.offsets[row]));
  return batch.map((_, row) => ({ shard, row }));
}

async function* itemsOf(texts: readonly string[]): AsyncGenerator<SourceItem> {
  for (const [i, text] of texts.entries())
    yield { kind: "document", document: { id: `d${i}`, text, origin: { file: "bench", line: i + 1 } } };
}
