/** Many workers on simulated devices: how busy the devices are kept, what a worker costs, and where it breaks. */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { availableParallelism } from "node:os";
import { fileURLToPath } from "node:url";
import { openMini } from "../fixtures/mini.ts";
import { runOptions } from "../fixtures/run-options.ts";
import { connectRedis, parseInfo } from "../../src/adapters/redis/connect.ts";
import type { RunOptions } from "../../src/core/contracts.ts";
import { nowMs, STAGES } from "../../src/core/telemetry.ts";
import { lineChart } from "../../src/telemetry/chart.ts";
import { type Bench, logNormalLengths, percent, type Table, whole } from "./bench.ts";
import { madeCorpus, openGround, openStore, plan } from "./fleet.ts";
import type { CpuSample, ScalingAnswer, ScalingTask } from "./scaling.process.ts";

interface Device {
  readonly name: string;
  readonly tokensPerSecond: number;
  readonly workers: readonly number[];
  /** How long each device has work. */
  readonly seconds: number;
}

/** The first as an H200 may be with BGE-M3; the second needs so little of the cores that only the protocol is left. */
const DEVICES = {
  small: [{ name: "fast", tokensPerSecond: 400_000, workers: [1, 2, 4], seconds: 6 }],
  full: [
    { name: "fast", tokensPerSecond: 400_000, workers: [1, 2, 4, 8, 16, 32, 64], seconds: 10 },
    { name: "slow", tokensPerSecond: 50_000, workers: [1, 16, 64], seconds: 60 },
  ],
} satisfies Record<string, readonly Device[]>;
/** A machine has fewer cores than sixty-four workers have; each process carries several. */
const PROCESSES = Math.max(1, availableParallelism());

interface Figures {
  readonly device: string;
  readonly workers: number;
  /** From the start of the workers to the last file. */
  readonly seconds: number;
  /** Share of the time that devices work, from when all have begun until the first finds nothing more to do. */
  readonly busy: number;
  /** The same from start to end, with the beginning and the last, uneven jobs. */
  readonly busyInAll: number;
  readonly tokensPerSecond: number;
  /** Processor time for a million tokens. */
  readonly cpu: { readonly mainThreads: number; readonly otherThreads: number; readonly redis: number };
  /** Milliseconds for a million tokens, by stage; those that wait for nothing are processor time. */
  readonly stageMs: Readonly<Record<string, number>>;
}

async function measure(device: Device, workers: number): Promise<Figures> {
  const ground = await openGround();
  const redis = connectRedis(ground.redis.url);
  try {
    const model = await openMini();
    const options = runOptions({ model: { ...model.ref, dim: 1024 }, heads: ["dense"], maxTokens: 8192 });
    const rows = Math.ceil((workers * device.tokensPerSecond * device.seconds) / 370);
    const lengths = logNormalLengths({ rows, median: 250, sigma: 0.9, maxTokens: 8192, seed: workers });
    const store = await openStore(ground.folder);
    const redisUrl = ground.redis.url;
    const { tokens } = await plan({ store, redisUrl, run: "scaling", options, ...madeCorpus(lengths) });
    const cpuOfRedis = async (): Promise<number> => {
      const info = parseInfo(await redis.info("cpu"));
      return Number(info.get("used_cpu_sys")) + Number(info.get("used_cpu_user"));
    };
    const cost = { batchMs: 0.5, tokenMs: 1000 / device.tokensPerSecond, pairMs: 0 };
    const children = await start({ workers, redisUrl, folder: ground.folder, options, cost });
    const redisBefore = await cpuOfRedis();
    const startedMs = nowMs();
    const ended = Promise.all(children.map((child) => once(child, "message")));
    for (const child of children) child.send("go");
    const answers = (await ended).map(([answer]) => answer as ScalingAnswer);
    const seconds = (Math.max(...answers.map(({ lastFileMs }) => lastFileMs)) - startedMs) / 1000;
    const redisSeconds = (await cpuOfRedis()) - redisBefore;
    return { device: device.name, workers, seconds, ...figuresOf(answers, { workers, seconds, tokens, redisSeconds }) };
  } finally {
    redis.disconnect();
    await ground.close();
  }
}

async function start(task: ScalingTask & { readonly options: RunOptions }): Promise<ChildProcess[]> {
  const processes = Math.min(task.workers, PROCESSES);
  const script = fileURLToPath(new URL("./scaling.process.js", import.meta.url));
  const children = Array.from({ length: processes }, (_, i) =>
    fork(script, [JSON.stringify({ ...task, workers: Math.floor((task.workers + i) / processes) })], {
      serialization: "advanced",
    }),
  );
  await Promise.all(children.map((child) => once(child, "message")));
  return children;
}

function figuresOf(
  answers: readonly ScalingAnswer[],
  run: Readonly<{ workers: number; seconds: number; tokens: number; redisSeconds: number }>,
): Omit<Figures, "device" | "workers" | "seconds"> {
  const { workers, seconds, tokens, redisSeconds } = run;
  const batches = answers.flatMap((answer) => answer.batches).filter((each) => each.length > 0);
  const fromMs = Math.max(...batches.map((each) => each[0]![0]));
  const toMs = Math.min(...batches.map((each) => each.at(-1)![0]));
  const within = (startedMs: number, ms: number): number =>
    Math.max(0, Math.min(toMs, startedMs + ms) - Math.max(fromMs, startedMs));
  const all = batches.flat();
  const deviceMs = all.reduce((sum, [, ms]) => sum + ms, 0);
  const steadyMs = all.reduce((sum, [startedMs, ms]) => sum + within(startedMs, ms), 0);
  const millions = (tokens / 1e6) * (steadyMs / deviceMs);
  const used = answers.map(({ cpu }) => {
    const [, mainBefore, allBefore] = sampleAt(cpu, fromMs);
    const [, mainAfter, allAfter] = sampleAt(cpu, toMs);
    return { main: mainAfter - mainBefore, all: allAfter - allBefore };
  });
  const main = used.reduce((sum, each) => sum + each.main, 0);
  const other = used.reduce((sum, each) => sum + each.all, 0) - main;
  const stageMs = STAGES.map((stage): [string, number] => {
    const ms = answers.reduce((sum, answer) => sum + (answer.stageMs[stage] ?? 0), 0);
    return [stage, ms / (tokens / 1e6)];
  });
  return {
    busy: steadyMs / (workers * (toMs - fromMs)),
    busyInAll: deviceMs / 1000 / (workers * seconds),
    tokensPerSecond: millions / ((toMs - fromMs) / 1e9),
    cpu: {
      mainThreads: main / millions,
      otherThreads: other / millions,
      redis: redisSeconds / (tokens / 1e6),
    },
    stageMs: Object.fromEntries(stageMs),
  };
}

function sampleAt(samples: readonly CpuSample[], atMs: number): CpuSample {
  return samples.find(([sampledMs]) => sampledMs >= atMs) ?? samples.at(-1)!;
}

export const bench: Bench = {
  title: "Scaling: workers with a simulated device each",
  async run({ size }) {
    const figures: Figures[] = [];
    for (const device of DEVICES[size])
      for (const workers of device.workers) figures.push(await measure(device, workers));
    const tables = DEVICES[size].map((device) => ({
      title: `Each device takes ${whole(device.tokensPerSecond)} tokens per second`,
      columns: ["workers", "million tokens/s", "devices busy", "start and end included", "cores used"],
      rows: figures
        .filter((each) => each.device === device.name)
        .map(({ workers, tokensPerSecond, busy, busyInAll, cpu }) => [
          workers,
          (tokensPerSecond / 1e6).toFixed(2),
          percent(busy),
          percent(busyInAll),
          ((tokensPerSecond / 1e6) * (cpu.mainThreads + cpu.otherThreads + cpu.redis)).toFixed(2),
        ]),
    }));
    const one = figures[0]!;
    const many = figures.findLast(({ device, busy }) => device === one.device && busy >= 0.95) ?? one;
    const aDevice = (DEVICES[size][0]!.tokensPerSecond / 1e6) * sumOf(many.cpu);
    return {
      figures: { cores: availableParallelism(), coresADevice: aDevice, runs: figures },
      tables: [...tables, costTable([one, many])],
      charts: { scaling: chartOf(figures, DEVICES[size]) },
      notes: [
        `With ${many.workers} workers, each worker of a device of 400,000 tokens per second uses ${aDevice.toFixed(3)} of a core, so a machine with C cores feeds ${(1 / aDevice).toFixed(0)} x C devices. This machine has ${availableParallelism()} cores, for Redis and ${PROCESSES} processes of workers. Rows have a median of 250 tokens and a dense vector of 1,024 numbers; files are written and synced.`,
      ],
    };
  },
};

function sumOf({ mainThreads, otherThreads, redis }: Figures["cpu"]): number {
  return mainThreads + otherThreads + redis;
}

/** The first seconds of a process are dearer, and what it does by the clock is shared by all its workers. */
function costTable(runs: readonly Figures[]): Table {
  const row = (where: string, msOf: (run: Figures) => number): string[] => [
    where,
    ...runs.map((run) => `${msOf(run).toFixed(1)} ms`),
  ];
  return {
    title: "Processor time for a million tokens",
    columns: ["where", ...runs.map(({ workers }) => (workers === 1 ? "1 worker" : `${workers} workers`))],
    rows: [
      row("main threads", ({ cpu }) => cpu.mainThreads * 1000),
      ...(["pack", "assemble", "encode"] as const).map((stage) =>
        row(`of the main threads: ${stage}`, ({ stageMs }) => stageMs[stage]!),
      ),
      row("other threads: writing, syncing, garbage collection, leases", ({ cpu }) => cpu.otherThreads * 1000),
      row("Redis", ({ cpu }) => cpu.redis * 1000),
      row("total", ({ cpu }) => sumOf(cpu) * 1000),
    ],
  };
}

function chartOf(figures: readonly Figures[], devices: readonly Device[]): string {
  return lineChart({
    title: "How busy devices are kept, by number of workers",
    xLabel: "workers",
    yLabel: "% of the time",
    xScale: "log",
    series: devices.map(({ name, tokensPerSecond }) => ({
      name: `${whole(tokensPerSecond)} tokens a second each`,
      points: figures
        .filter(({ device }) => device === name)
        .map(({ workers, busy }) => [workers, busy * 100] as const),
    })),
  });
}
