/** What happens to the queue: it is killed, wiped, cut off or full. */
import { Redis } from "ioredis";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, onTestFinished, test } from "vitest";
import { ChaosFleet, expectGoodEnd, LIMIT_MS, SEEDS } from "./chaos-fleet.ts";

function client(fleet: ChaosFleet): Redis {
  const redis = new Redis(fleet.redis.url, { maxRetriesPerRequest: null });
  redis.on("error", () => {});
  onTestFinished(() => redis.disconnect());
  return redis;
}

describe.each(SEEDS)("seed %i", (seed) => {
  test(
    "Redis is killed and comes back, three times",
    async () => {
      const fleet = await ChaosFleet.start({ documents: 2000, seed });
      await fleet.enqueue();
      const workers = [fleet.startWorker(), fleet.startWorker()];
      // A worker refuses to start without Redis; what is tested is one at work.
      await fleet.untilFiles(1);
      for (let kills = 0; kills < 3; kills++) {
        await sleep(1000 + fleet.random() * 1500);
        await fleet.redis.restart();
      }
      expectGoodEnd(...(await Promise.all(workers.map(({ finished }) => finished))));
      await fleet.expectWhole();
    },
    LIMIT_MS,
  );

  test(
    "FLUSHALL: the workers queue again what is missing, with no one's help",
    async () => {
      const fleet = await ChaosFleet.start({ documents: 2000, seed });
      await fleet.enqueue();
      const workers = [fleet.startWorker(), fleet.startWorker()];
      await fleet.untilFiles(1);
      await client(fleet).flushall();
      const wipedAtMs = Date.now();
      const ended = await Promise.all(workers.map(({ finished }) => finished));
      expectGoodEnd(...ended);
      await fleet.expectWhole();
      const lines = ended.flatMap(({ stderr }) => stderr.split("\n"));
      const healed = lines.find((line) => line.includes("jobs were missing from the queue"));
      expect(healed).toBeDefined();
      const { time } = JSON.parse(healed!) as { time: number };
      console.log(`RECOVERED after FLUSHALL in ${time - wipedAtMs} ms (--tend-seconds 1)`);
    },
    LIMIT_MS,
  );

  test(
    "CLIENT KILL, over and over, during pulls and completions",
    async () => {
      const fleet = await ChaosFleet.start({ documents: 2000, seed });
      await fleet.enqueue();
      const workers = [fleet.startWorker(), fleet.startWorker()];
      const redis = client(fleet);
      const ended = Promise.all(workers.map(({ finished }) => finished));
      const killing = { isOver: false };
      void ended.then(() => (killing.isOver = true));
      for (let kills = 0; kills < 30 && !killing.isOver; kills++) {
        await redis.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes");
        await sleep(100 + fleet.random() * 500);
      }
      expectGoodEnd(...(await ended));
      await fleet.expectWhole();
    },
    LIMIT_MS,
  );

  test(
    "a Redis that is full: the producer says so, and the same command goes on when there is room",
    async () => {
      const fleet = await ChaosFleet.start({ documents: 1000, seed });
      const redis = client(fleet);
      await redis.config("SET", "maxmemory", "1mb");
      const refused = await fleet.startProducer().finished;
      expect(refused.code).toBe(1);
      expect(refused.stderr).toContain("maxmemory");
      await redis.config("SET", "maxmemory", "0");
      await fleet.enqueue();
      expectGoodEnd(await fleet.startWorker().finished);
      await fleet.expectWhole();
    },
    LIMIT_MS,
  );
});
