/** Many workers on simulated devices: the share of the ideal that reaches the store, and what a worker costs. */
import { fork } from "node:child_process";
import { once } from "node:events";
import { availableParallelism } from "node:os";
import { fileURLToPath } from "node:url";
import { openMini } from "../fixtures/mini.ts";
import { runOptions } from "../fixtures/run-options.ts";
import { lineChart } from "../../src/telemetry/chart.ts";
import { type Bench, logNormalLengths, percent, whole } from "./bench.ts";
import { madeCorpus, openGround, openStore, plan } from "./fleet.ts";
import type { ScalingTask } from "./scaling.process.ts";

/** As an H200 may do with BGE-M3. */
export const TOKENS_PER_SECOND = 400_000;
/** The fleet's own machine has fewer cores than sixty-four workers have; each process carries several. */
const PROCESSES = Math.max(1, availableParallelism());

interface Figures {
  readonly workers: number;
  readonly seconds: number;
  readonly share: number;
  /** CPU time of worker processes, for a second of one device's time. */
  readonly coresAWorker: number;
}

async function measure(workers: number, tokensEach: number): Promise<Figures> {
  const ground = await openGround();
  try {
    const model = await openMini();
    const options = runOptions({ model: { ...model.ref, dim: 1024 }, heads: ["dense"], maxTokens: 8192 });
    const rows = Math.ceil((workers * tokensEach) / 400);
    const lengths = logNormalLengths({ rows, median: 250, sigma: 0.9, maxTokens: 8192, seed: workers });
    const store = await openStore(ground.folder);
    const { tokens } = await plan({
      store,
      redisUrl: ground.redis.url,
      run: "scaling",
      options,
      ...madeCorpus(lengths),
    });
    const processes = Math.min(workers, PROCESSES);
    const parts = Array.from({ length: processes }, (_, i) => Math.floor((workers + i) / processes));
    const children = parts.map((part) => {
      const task: ScalingTask = { workers: part, redisUrl: ground.redis.url, folder: ground.folder, options };
      return fork(fileURLToPath(new URL("./scaling.process.js", import.meta.url)), [JSON.stringify(task)]);
    });
    await Promise.all(children.map((child) => once(child, "message")));
    const startedMs = performance.now();
    const ended = Promise.all(children.map((child) => once(child, "message")));
    for (const child of children) child.send("go");
    const cpuSeconds = (await ended).reduce((sum, [seconds]) => sum + Number(seconds), 0);
    const seconds = (performance.now() - startedMs) / 1000;
    const deviceSeconds = tokens / TOKENS_PER_SECOND;
    return {
      workers,
      seconds,
      share: deviceSeconds / workers / seconds,
      coresAWorker: cpuSeconds / deviceSeconds,
    };
  } finally {
    await ground.close();
  }
}

export const bench: Bench = {
  title: "Scaling: workers with a simulated device each",
  async run({ size }) {
    const counts = size === "full" ? [1, 2, 4, 8, 16, 32, 64] : [1, 2, 4];
    const figures: Figures[] = [];
    for (const workers of counts) figures.push(await measure(workers, size === "full" ? 4_000_000 : 1_000_000));
    return {
      figures,
      tables: [
        {
          title: `Each device takes ${whole(TOKENS_PER_SECOND)} tokens a second`,
          columns: ["workers", "seconds", "of the ideal", "cores a worker takes"],
          rows: figures.map(({ workers, seconds, share, coresAWorker }) => [
            workers,
            seconds.toFixed(1),
            percent(share),
            coresAWorker.toFixed(2),
          ]),
        },
      ],
      charts: {
        scaling: lineChart({
          title: "Tokens a second by number of workers",
          xLabel: "workers",
          yLabel: "million tokens a second",
          xScale: "log",
          series: [
            {
              name: "ideal",
              points: figures.map(({ workers }) => [workers, (workers * TOKENS_PER_SECOND) / 1e6] as const),
            },
            {
              name: "measured",
              points: figures.map(
                ({ workers, share }) => [workers, (share * workers * TOKENS_PER_SECOND) / 1e6] as const,
              ),
            },
          ],
        }),
      },
      notes: [
        `The devices only wait, so a machine's cores are what runs out: ${availableParallelism()} here, for Redis and ${PROCESSES} processes. Rows have a dense vector of 1,024 numbers.`,
      ],
    };
  },
};
