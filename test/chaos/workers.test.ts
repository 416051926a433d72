/** What happens to workers on machines that vanish, freeze or are told to go. */
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import type { Started } from "../fixtures/cli.ts";
import { ChaosFleet, expectGoodEnd, LIMIT_MS, LOCK_SECONDS, SEEDS } from "./chaos-fleet.ts";

const POISON = fileURLToPath(new URL("poison.mjs", import.meta.url));

describe.each(SEEDS)("seed %i", (seed) => {
  test(
    "SIGKILL at random moments",
    async () => {
      const fleet = await ChaosFleet.start({ documents: 3000, seed });
      await fleet.enqueue();
      let victim: Started = fleet.startWorker();
      for (let kills = 0; kills < 4; kills++) {
        await sleep(700 + fleet.random() * 1800);
        victim.child.kill("SIGKILL");
        await victim.finished;
        victim = fleet.startWorker();
      }
      expectGoodEnd(...(await Promise.all([victim.finished, fleet.startWorker().finished])));
      await fleet.expectWhole();
    },
    LIMIT_MS,
  );

  test(
    "SIGSTOP beyond the lock: a zombie that wakes late changes nothing",
    async () => {
      const fleet = await ChaosFleet.start({ documents: 2000, seed });
      await fleet.enqueue();
      const zombie = fleet.startWorker();
      await fleet.untilFiles(1);
      zombie.child.kill("SIGSTOP");
      const survivor = await fleet.startWorker().finished;
      expectGoodEnd(survivor);
      await fleet.expectWhole();
      zombie.child.kill("SIGCONT");
      expectGoodEnd(await zombie.finished);
      await fleet.expectWhole();
    },
    LIMIT_MS,
  );

  test(
    "SIGTERM: what is begun is finished, the rest goes back at once",
    async () => {
      const fleet = await ChaosFleet.start({ documents: 2000, seed });
      await fleet.enqueue();
      const worker = fleet.startWorker();
      await fleet.untilFiles(1);
      worker.child.kill("SIGTERM");
      expectGoodEnd(await worker.finished);
      const { stdout } = await fleet.withQueue("status", "--json");
      expect(JSON.parse(stdout)).toMatchObject({ queue: { active: 0 } });
      expectGoodEnd(await fleet.startWorker().finished);
      await fleet.expectWhole();
    },
    LIMIT_MS,
  );

  test(
    "a row that kills the process is found and rejected; all others are embedded",
    async () => {
      const poison = { id: "poison", text: "this row kills: ☠☠☠ and nothing else does" };
      const fleet = await ChaosFleet.start({ documents: 400, seed, extraLines: [JSON.stringify(poison)] });
      await fleet.enqueue();
      const env = { NODE_OPTIONS: `--import ${POISON}` };
      let deaths = 0;
      let last = await fleet.startWorker({ env }).finished;
      for (; last.code !== 0 && deaths < 6; deaths++) {
        await sleep(LOCK_SECONDS * 1000);
        last = await fleet.startWorker({ env }).finished;
      }
      expectGoodEnd(last);
      expect(deaths).toBeGreaterThan(0);
      await fleet.expectWhole(["poison"]);
      expect(last.stderr).toContain("a row crashes the model; rejected");
    },
    LIMIT_MS,
  );
});
