/** Several workers in one process, each with a device that only waits. */
import type { RunOptions } from "../../src/core/contracts.ts";
import { DEFAULT_PACKING } from "../../src/core/packing.ts";
import { PacedDevice } from "../fixtures/paced-device.ts";
import { drain, openStore } from "./fleet.ts";

export interface ScalingTask {
  readonly workers: number;
  readonly redisUrl: string;
  readonly folder: string;
  readonly options: RunOptions;
}

const COST = { batchMs: 0.5, tokenMs: 1 / 400, pairMs: 0 };

const { workers, redisUrl, folder, options } = JSON.parse(process.argv[2]!) as ScalingTask;
const store = await openStore(folder);
process.send!("ready");
process.once("message", () => {
  const cpu = process.cpuUsage();
  const work = Array.from({ length: workers }, (_, i) =>
    drain({
      store,
      redisUrl,
      options,
      vocabSize: 1000,
      embedder: new PacedDevice(COST),
      worker: `${process.pid}-${i}`,
      packing: { ...DEFAULT_PACKING, cost: COST },
    }),
  );
  void Promise.all(work).then(() => {
    const { user, system } = process.cpuUsage(cpu);
    process.send!((user + system) / 1e6, () => process.disconnect());
  });
});
