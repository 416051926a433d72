/** Producers that die, and several of everything at the same time. */
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { ChaosFleet, expectGoodEnd, LIMIT_MS, SEEDS } from "./chaos-fleet.ts";

describe.each(SEEDS)("seed %i", (seed) => {
  test(
    "a producer killed again and again, and run once more",
    async () => {
      const fleet = await ChaosFleet.start({ documents: 20_000, maxWords: 12, seed });
      for (let kills = 0; kills < 6; kills++) {
        const producer = fleet.startProducer();
        // From the first imports to the last jobs: a whole producer takes some seconds.
        await sleep(400 + fleet.random() * 4000);
        producer.child.kill("SIGKILL");
        await producer.finished;
      }
      await fleet.enqueue();
      const { stdout } = await fleet.command("status", "--json");
      expect(JSON.parse(stdout)).toMatchObject({ documents: 20_000, state: "embedding" });
      expectGoodEnd(...(await Promise.all([fleet.startWorker().finished, fleet.startWorker().finished])));
      await fleet.expectWhole();
    },
    LIMIT_MS,
  );

  test(
    "two producers, two workers, two sealers and two that resume, all at once",
    async () => {
      const fleet = await ChaosFleet.start({ documents: 1500, seed });
      const producers = [fleet.startProducer(), fleet.startProducer()];
      const workers = [fleet.startWorker(), fleet.startWorker()];
      expectGoodEnd(...(await Promise.all(producers.map(({ finished }) => finished))));
      const mended = await Promise.all([fleet.withQueue("resume"), fleet.withQueue("resume")]);
      expectGoodEnd(...mended);
      expectGoodEnd(...(await Promise.all(workers.map(({ finished }) => finished))));
      expectGoodEnd(...(await Promise.all([fleet.command("seal"), fleet.command("seal")])));
      await fleet.expectWhole();
    },
    LIMIT_MS,
  );
});
