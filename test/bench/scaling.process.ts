/** Several workers in one process, each with a device that only waits. */
import { readFileSync } from "node:fs";
import type { RunOptions } from "../../src/core/contracts.ts";
import type { CostModel } from "../../src/core/cost-model.ts";
import { DEFAULT_PACKING } from "../../src/core/packing.ts";
import { type FleetEvent, nowMs, type Stage } from "../../src/core/telemetry.ts";
import { PacedDevice } from "../fixtures/paced-device.ts";
import { drain, openStore } from "./fleet.ts";

export interface ScalingTask {
  readonly workers: number;
  readonly redisUrl: string;
  readonly folder: string;
  readonly options: RunOptions;
  readonly cost: CostModel;
}

/** Processor seconds of this process so far, at a time; those of its main thread apart. */
export type CpuSample = readonly [atMs: number, mainThread: number, allThreads: number];

export interface ScalingAnswer {
  /** Of each worker, when each batch began and how long the device worked on it. */
  readonly batches: readonly (readonly (readonly [startedAtMs: number, deviceMs: number])[])[];
  /** When the last file was in the store. */
  readonly lastFileMs: number;
  readonly cpu: readonly CpuSample[];
  readonly stageMs: Readonly<Partial<Record<Stage, number>>>;
}

const SAMPLE_INTERVAL_MS = 100;
const TICKS_A_SECOND = 100;

function cpuNow(): CpuSample {
  const { user, system } = process.cpuUsage();
  const fields = readFileSync(`/proc/self/task/${process.pid}/stat`, "latin1").split(") ")[1]!.split(" ");
  return [nowMs(), (Number(fields[11]) + Number(fields[12])) / TICKS_A_SECOND, (user + system) / 1e6];
}

const { workers, redisUrl, folder, options, cost } = JSON.parse(process.argv[2]!) as ScalingTask;
const store = await openStore(folder);
process.send!("ready");
process.once("message", () => {
  const cpu = [cpuNow()];
  const sampler = setInterval(() => cpu.push(cpuNow()), SAMPLE_INTERVAL_MS);
  let lastFileMs = 0;
  const stageMs: Partial<Record<Stage, number>> = {};
  const batches = Array.from({ length: workers }, (): [number, number][] => []);
  const listen = (worker: number) => (event: FleetEvent) => {
    if (event.kind === "batch") batches[worker]!.push([event.startedAtMs, event.deviceMs]);
    else if (event.kind === "shard") lastFileMs = nowMs();
    else if (event.kind === "stage") stageMs[event.stage] = (stageMs[event.stage] ?? 0) + event.durationMs;
  };
  const work = Array.from({ length: workers }, (_, i) =>
    drain({
      store,
      redisUrl,
      options,
      vocabSize: 1000,
      embedder: new PacedDevice(cost),
      worker: `${process.pid}-${i}`,
      packing: { ...DEFAULT_PACKING, cost },
      observe: listen(i),
    }),
  );
  void Promise.all(work).then(() => {
    clearInterval(sampler);
    const answer: ScalingAnswer = { batches, lastFileMs, cpu: [...cpu, cpuNow()], stageMs };
    process.send!(answer, () => process.disconnect());
  });
});
