/** What a row costs as the corpus grows, what Redis holds and does, and how soon the first batch runs. */
import { openMini } from "../fixtures/mini.ts";
import { runOptions } from "../fixtures/run-options.ts";
import type { BatchReport } from "../../src/core/batch.ts";
import { BullQueue } from "../../src/adapters/redis/bull-queue.ts";
import { connectRedis } from "../../src/adapters/redis/connect.ts";
import type { Embedder } from "../../src/core/ports.ts";
import { sealRun } from "../../src/run/seal.ts";
import { lineChart } from "../../src/telemetry/chart.ts";
import { type Bench, logNormalLengths, whole } from "./bench.ts";
import { drain, type Ground, madeCorpus, openGround, openStore, plan, QUEUE } from "./fleet.ts";

/** Takes no time at all, so that what is measured is everything else. */
class InstantDevice implements Embedder {
  readonly device = "instant";
  firstBatchAtMs: number | null = null;

  paddedLength(longest: number): number {
    return longest;
  }

  async embed(): Promise<BatchReport> {
    const nowMs = performance.timeOrigin + performance.now();
    this.firstBatchAtMs ??= nowMs;
    return { startedAtMs: nowMs, finishedAtMs: nowMs };
  }

  async close(): Promise<void> {}
}

interface Figures {
  readonly rows: number;
  readonly shards: number;
  readonly cpuMicrosecondsARow: number;
  readonly firstBatchSeconds: number;
  /** Of the queue's own keys, with every job queued and none taken. */
  readonly redisBytesAJob: number;
  /** Beyond those that a producer and a worker need whatever there is to do. */
  readonly redisCommandsAShard: number;
}

/** What a producer and a worker need of Redis once: connections, the queue's scripts, looks for jobs that are not there. */
interface Once {
  readonly redisCommands: number;
  readonly redisBytes: number;
}

async function measureOnce(ground: Ground): Promise<Once> {
  const redisUrl = ground.redis.url;
  const redis = connectRedis(redisUrl);
  try {
    const emptyBytes = await usedMemory(redis);
    await redis.config("RESETSTAT");
    const queue = new BullQueue({ redisUrl, name: QUEUE });
    await queue.load();
    const store = await openStore(`${ground.folder}/nothing`);
    const options = runOptions({ model: (await openMini()).ref });
    await drain({ store, redisUrl, options, embedder: new InstantDevice(), vocabSize: 1000 });
    const redisCommands = commandsIn(await redis.info("commandstats"));
    const redisBytes = (await usedMemory(redis)) - emptyBytes;
    await queue.close();
    return { redisCommands, redisBytes };
  } finally {
    redis.disconnect();
  }
}

async function measure(ground: Ground, rows: number, once: Once): Promise<Figures> {
  const redisUrl = ground.redis.url;
  const redis = connectRedis(redisUrl);
  try {
    const model = await openMini();
    const options = runOptions({ model: { ...model.ref, dim: 16 }, heads: ["dense"], maxTokens: 1024 });
    const lengths = logNormalLengths({ rows, median: 60, sigma: 0.8, maxTokens: 1024, seed: rows });
    await redis.config("RESETSTAT");
    const cpu = process.cpuUsage();

    // Once with a worker at work from the start, for the time to its first batch.
    const run = `growth-${rows}`;
    const store = await openStore(`${ground.folder}/${run}`);
    const device = new InstantDevice();
    let isPlanned = false;
    const startedAtMs = performance.timeOrigin + performance.now();
    const worker = drain({ store, redisUrl, options, embedder: device, vocabSize: 1000, isOver: () => isPlanned });
    const closed = await plan({ store, redisUrl, run, options, ...madeCorpus(lengths) });
    isPlanned = true;
    await worker;
    await sealRun({ store, run, keepStaging: false });
    const { user, system } = process.cpuUsage(cpu);
    const commands = commandsIn(await redis.info("commandstats"));

    // And once without one, for what waiting jobs take.
    const idle = await openStore(`${ground.folder}/${run}-idle`);
    await plan({ store: idle, redisUrl, run: `${run}-idle`, options, ...madeCorpus(lengths) });
    const heldBytes = await bytesOfKeys(redis);
    await redis.flushall();
    return {
      rows,
      shards: closed.shards,
      cpuMicrosecondsARow: (user + system) / rows,
      firstBatchSeconds: (device.firstBatchAtMs! - startedAtMs) / 1000,
      redisBytesAJob: heldBytes / closed.shards,
      redisCommandsAShard: (commands - once.redisCommands) / closed.shards,
    };
  } finally {
    redis.disconnect();
  }
}

async function usedMemory(redis: ReturnType<typeof connectRedis>): Promise<number> {
  return Number(/used_memory:(\d+)/.exec(await redis.info("memory"))![1]);
}

async function bytesOfKeys(redis: ReturnType<typeof connectRedis>): Promise<number> {
  const keys = await redis.keys("*");
  const sizes = await Promise.all(keys.map((key) => redis.call("MEMORY", "USAGE", key, "SAMPLES", "0")));
  return sizes.reduce<number>((sum, bytes) => sum + Number(bytes), 0);
}

/** Every command that Redis ran, those inside BullMQ's scripts included. */
function commandsIn(stats: string): number {
  return [...stats.matchAll(/calls=(\d+)/g)].reduce((sum, [, calls]) => sum + Number(calls), 0);
}

export const bench: Bench = {
  title: "Growth: what a row costs, whatever the size of the corpus",
  async run({ size }) {
    const sizes = size === "full" ? [1000, 10_000, 100_000, 1_000_000] : [1000, 10_000, 50_000];
    const ground = await openGround();
    const figures: Figures[] = [];
    let once: Once;
    try {
      once = await measureOnce(ground);
      // The first one warms the code up.
      await measure(ground, 2000, once);
      for (const rows of sizes) figures.push(await measure(ground, rows, once));
    } finally {
      await ground.close();
    }
    return {
      figures: { once, sizes: figures },
      tables: [
        {
          title: "Producer, queue, worker and seal, without tokeniser and model",
          columns: [
            "rows",
            "shards",
            "CPU µs per row",
            "s to first batch",
            "Redis bytes per job",
            "Redis commands per shard",
          ],
          rows: figures.map((each) => [
            whole(each.rows),
            whole(each.shards),
            each.cpuMicrosecondsARow.toFixed(0),
            each.firstBatchSeconds.toFixed(2),
            whole(each.redisBytesAJob),
            each.redisCommandsAShard.toFixed(1),
          ]),
        },
      ],
      charts: {
        growth: lineChart({
          title: "CPU time of a row, without tokeniser and model",
          xLabel: "rows of the corpus",
          yLabel: "µs",
          xScale: "log",
          series: [
            { name: "CPU µs per row", points: figures.map((each) => [each.rows, each.cpuMicrosecondsARow] as const) },
          ],
        }),
      },
      notes: [
        "Rows of log-normal lengths (median 60 tokens) with a dense vector of 16 numbers. Redis commands are all that INFO commandstats counts, including those inside BullMQ's scripts.",
        `In addition, a producer and a worker that find nothing to do need ${whole(once.redisCommands)} commands once, and ${whole(once.redisBytes / 1000)} kB of Redis memory for connections and scripts.`,
      ],
    };
  },
};
