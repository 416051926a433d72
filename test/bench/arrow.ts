/** From vectors in memory to the bytes of a result file, beside a plain copy of as many bytes. */
import { assembleResults, encodeResults } from "../../src/arrow/results.ts";
import { allocateShard, type ShardBuffers } from "../../src/core/batch.ts";
import type { Head, RunOptions, VectorType } from "../../src/core/contracts.ts";
import type { PlannedRows } from "../../src/core/rows.ts";
import { barChart } from "../../src/telemetry/chart.ts";
import { openShardMemory } from "../../workers/shard-memory.ts";
import { runOptions } from "../fixtures/run-options.ts";
import { alternate, type Bench, median, randomNumbers } from "./bench.ts";

const DIM = 1024;

function optionsOf(heads: Head[], vectors: VectorType): RunOptions {
  return runOptions({
    model: { id: "bench", revision: "1", sha256: "0".repeat(64), dim: DIM, maxTokens: 8192 },
    heads,
    vectors,
    maxTokens: 8192,
  });
}

interface Shard {
  readonly rows: PlannedRows;
  readonly buffers: ShardBuffers;
  readonly bytes: number;
}

function makeShard(head: Head, rows: number, tokens: number): Shard {
  const lengths = new Uint32Array(rows).fill(tokens);
  const buffers = allocateShard({ lengths, dim: DIM, heads: [head] });
  const random = randomNumbers(7);
  for (const vectors of [buffers.dense, buffers.colbert, buffers.sparseValues])
    vectors?.forEach((_, i) => (vectors[i] = random() - 0.5));
  buffers.sparseCounts?.fill(tokens - 2);
  buffers.sparseIndices?.forEach((_, i) => (buffers.sparseIndices![i] = i % tokens));
  const values = [buffers.dense, buffers.colbert, buffers.sparseValues, buffers.sparseIndices];
  return {
    buffers,
    bytes: values.reduce((sum, array) => sum + (array?.byteLength ?? 0), 0),
    rows: {
      ids: Array.from({ length: rows }, (_, row) => `document-${row}`),
      chunks: new Uint32Array(rows),
      charStarts: new Uint32Array(rows),
      charEnds: new Uint32Array(rows).fill(tokens * 4),
      textHashes: new Uint8Array(rows * 32),
      offsets: buffers.offsets,
      tokenIds: buffers.ids,
      texts: null,
      kept: [],
    },
  };
}

const { files } = openShardMemory();

/** As a worker does: when the file is written, its memory is the next one's. */
function encode({ rows, buffers }: Shard, options: RunOptions): void {
  const cost = { paddedTokens: 1, batches: 1, deviceMs: 1, idleMs: 0, idle: {} };
  const stats = { rows: buffers.rows, rejects: 0, realTokens: 1, ...cost };
  const meta = { run: "bench", shard: "w000000-s0000", options, stats, rejectsKey: null };
  files.give(encodeResults(assembleResults(rows, buffers), meta, files).buffer);
}

export const bench: Bench = {
  title: "Arrow: vectors in memory to the bytes of a result file",
  async run({ size }) {
    const scale = size === "full" ? 1 : 4;
    const dense = makeShard("dense", 16_384 / scale, 16);
    const colbert = makeShard("colbert", 64 / scale, 256);
    const shards: [name: string, head: Head, shard: Shard, vectors: VectorType][] = [
      ["dense", "dense", dense, "float32"],
      ["dense, to float16", "dense", dense, "float16"],
      ["ColBERT", "colbert", colbert, "float32"],
      ["ColBERT, to float16", "colbert", colbert, "float16"],
      ["sparse", "sparse", makeShard("sparse", 16_384 / scale, 256), "float32"],
    ];
    const figures = [];
    for (const [name, head, shard, vectors] of shards) {
      const source = Buffer.alloc(shard.bytes, 1);
      const options = optionsOf([head], vectors);
      const seconds = await alternate(
        { encode: () => encode(shard, options), copy: () => Buffer.from(source) },
        size === "full" ? 15 : 7,
      );
      const [encodeSeconds, copySeconds] = [median(seconds.encode), median(seconds.copy)];
      const mbPerSecond = shard.bytes / 1e6 / encodeSeconds;
      figures.push({ name, mb: shard.bytes / 1e6, mbPerSecond, timesOfCopy: encodeSeconds / copySeconds });
    }
    return {
      figures,
      tables: [
        {
          title: "Encoding, beside a copy of as many bytes to new memory",
          columns: ["shard", "MB of vectors", "MB/s", "time / a plain copy's"],
          rows: figures.map(({ name, mb, mbPerSecond, timesOfCopy }) => [
            name,
            mb.toFixed(0),
            mbPerSecond.toFixed(0),
            `${timesOfCopy.toFixed(2)} x`,
          ]),
        },
      ],
      charts: {
        arrow: barChart({
          title: "From vectors to file bytes",
          xLabel: "MB/s",
          bars: figures.map(({ name, mbPerSecond }) => [name, mbPerSecond] as const),
        }),
      },
      notes: [],
    };
  },
};
