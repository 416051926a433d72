/** The whole fleet beside the session alone, on the same batches: what everything around the model costs. */
import { openMini } from "../fixtures/mini.ts";
import { runOptions } from "../fixtures/run-options.ts";
import { ThreadEmbedder } from "../../models/onnx/thread-embedder.ts";
import { loadTokenizer } from "../../models/tokenizer/native.ts";
import { allocateShard, type BatchReport, type RowRef } from "../../src/core/batch.ts";
import type { Head } from "../../src/core/contracts.ts";
import type { SourceItem } from "../../src/core/documents.ts";
import type { Embedder } from "../../src/core/ports.ts";
import { barChart } from "../../src/telemetry/chart.ts";
import { type Bench, median, percent, whole } from "./bench.ts";
import { documents } from "./corpora.ts";
import { drain, openGround, openStore, plan } from "./fleet.ts";
import { measureGaps } from "./gaps.ts";
import type { WorkerCounts } from "../../workers/batch-ledger.ts";

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

const HEAD_SETS: readonly (readonly Head[])[] = [
  ["dense", "sparse"],
  ["dense", "sparse", "colbert"],
];

interface Round extends WorkerCounts {
  readonly fleetSeconds: number;
  readonly bareSeconds: number;
}

export const bench: Bench = {
  title: "Bare session: the same batches through the session alone and through the fleet",
  async run({ size }) {
    const rounds = size === "full" ? 3 : 2;
    const texts = documents(size === "full" ? 1_200_000 : 60_000);
    const measured = [];
    for (const heads of HEAD_SETS) measured.push({ heads, rounds: await compare(heads, texts, rounds) });
    const gaps = await measureGaps(HEAD_SETS, size === "full" ? { rounds: 3, batches: 12 } : { rounds: 1, batches: 4 });
    const { realTokens, paddedTokens } = measured[0]!.rounds[0]!;
    return {
      figures: { measured, gaps },
      tables: [
        {
          title: "Speed of the whole fleet, relative to the session's own",
          columns: ["heads", "fleet / bare session", "device busy while jobs were held"],
          rows: measured.map(({ heads, rounds: all }) => [
            heads.join(", "),
            percent(median(all.map(({ fleetSeconds, bareSeconds }) => bareSeconds / fleetSeconds))),
            percent(median(all.map(({ deviceMs, idleMs }) => deviceMs / (deviceMs + idleMs)))),
          ]),
        },
        {
          title: "From the end of one batch of 16,384 tokens to the start of the next",
          columns: ["heads", "one thread for everything, ms", "the fleet's threads, ms"],
          rows: gaps.map(({ heads, oneThreadMs, embedderMs }) => [
            heads.join(", "),
            oneThreadMs.toFixed(2),
            embedderMs.toFixed(2),
          ]),
        },
      ],
      charts: {
        bare: barChart({
          title: "Seconds for the same batches (median)",
          xLabel: "seconds",
          bars: measured.flatMap(({ heads, rounds: all }): [string, number][] => [
            [`${heads.join(", ")}: session alone`, median(all.map((each) => each.bareSeconds))],
            [`${heads.join(", ")}: whole fleet`, median(all.map((each) => each.fleetSeconds))],
          ]),
        }),
      },
      notes: [
        `${rounds} rounds in alternation, of ${whole(realTokens)} tokens each, ${percent(realTokens / paddedTokens)} of the padded area. The fleet's time runs from the start of a worker, whose session is open and whose jobs are queued, to its last file. The session's time is that inside session.run alone.`,
        "Between batches: medians of full batches of 32 rows, with one core free besides the model's own, as beside a GPU. Vectors have 256 numbers, a quarter of BGE-M3's.",
      ],
    };
  },
};

async function compare(heads: readonly Head[], texts: readonly string[], rounds: number): Promise<Round[]> {
  const model = await openMini();
  const tokenizer = await loadTokenizer(model.tokenizerPath);
  const session = await ThreadEmbedder.open({ model, threads: 2 });
  const options = runOptions({ model: model.ref, heads: [...heads], maxTokens: 1024 });
  const figures: Round[] = [];
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
        const rows = rowsOf(batch, model.manifest.dim, heads);
        const { startedAtMs, finishedAtMs } = await session.embed({ rows });
        bareMs += finishedAtMs - startedAtMs;
      }
      // The first round warms up.
      if (round > 0) figures.push({ ...counts, fleetSeconds, bareSeconds: bareMs / 1000 });
    }
  } finally {
    await session.close();
    await ground.close();
  }
  return figures;
}

function rowsOf(batch: readonly Int32Array[], dim: number, heads: readonly Head[]): RowRef[] {
  const shard = allocateShard({ lengths: batch.map(({ length }) => length), dim, heads });
  batch.forEach((ids, row) => shard.ids.set(ids, shard.offsets[row]));
  return batch.map((_, row) => ({ shard, row }));
}

async function* itemsOf(texts: readonly string[]): AsyncGenerator<SourceItem> {
  for (const [i, text] of texts.entries())
    yield { kind: "document", document: { id: `d${i}`, text, origin: { file: "bench", line: i + 1 } } };
}
