/** Producers that die, and several of everything at the same time. */
import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "vitest";
import { chaosTest, endWell } from "./chaos-fleet.ts";

chaosTest(
  "a producer killed again and again, and run once more",
  { documents: 20_000, maxWords: 12 },
  async (fleet) => {
    for (let kills = 0; kills < 6; kills++) {
      // With threads of its own and without: what one has planned the other takes up.
      const producer = fleet.startProducer("--producer-threads", String(1 + (kills % 3)));
      // From the first imports to the last jobs: a whole producer takes some seconds.
      await sleep(400 + fleet.random() * 4000);
      producer.child.kill("SIGKILL");
      await producer.finished;
      fleet.injected++;
    }
    await fleet.enqueue();
    const { stdout } = await fleet.command("status", "--json");
    expect(JSON.parse(stdout)).toMatchObject({ documents: fleet.documents, state: "embedding" });
    await endWell(fleet.startWorker(), fleet.startWorker());
  },
);

chaosTest("two producers, workers, sealers and resumes, all at once", { documents: 1500 }, async (fleet) => {
  const producers = [fleet.startProducer(), fleet.startProducer()];
  const workers = [fleet.startWorker(), fleet.startWorker()];
  await endWell(...producers);
  await endWell(fleet.withQueue("resume"), fleet.withQueue("resume"));
  await endWell(...workers);
  await endWell(fleet.command("seal"), fleet.command("seal"));
  fleet.injected++;
});
