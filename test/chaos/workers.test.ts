/** What happens to workers on machines that vanish, freeze or are told to go. */
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { expect } from "vitest";
import type { Started } from "../fixtures/cli.ts";
import { otherWeights } from "../fixtures/other-weights.ts";
import { tempFolder } from "../fixtures/temp-folder.ts";
import { chaosTest, endWell, LOCK_SECONDS } from "./chaos-fleet.ts";

const POISON = fileURLToPath(new URL("poison.mjs", import.meta.url));
const HANG = fileURLToPath(new URL("hang.mjs", import.meta.url));
const DIE_UPLOADED = fileURLToPath(new URL("die-uploaded.mjs", import.meta.url));
const BROKEN_LOADER = fileURLToPath(new URL("broken-loader.mjs", import.meta.url));
const CLOCK = fileURLToPath(new URL("clock.mjs", import.meta.url));

chaosTest("SIGKILL at random moments", { documents: 3000 }, async (fleet) => {
  let [victim, survivor] = (await fleet.startBusy(2)) as [Started, Started];
  const redis = fleet.client();
  for (let kills = 0; kills < 4; kills++) {
    await sleep(fleet.random() * 1800);
    const { pid } = victim.child;
    victim.child.kill("SIGKILL");
    await victim.finished;
    fleet.injected++;
    const killedAtMs = performance.now();
    const hadJobs = (await fleet.leasedBy(redis, pid!)).size > 0;
    [victim, survivor] = [survivor, fleet.startWorker()];
    while ((await fleet.leasedBy(redis, pid!)).size > 0) await sleep(20);
    if (hadJobs) fleet.recoveredMs.push(performance.now() - killedAtMs);
  }
  await endWell(victim, survivor);
});

chaosTest("SIGSTOP beyond the lock: a zombie that wakes late changes nothing", { documents: 2000 }, async (fleet) => {
  const [zombie] = (await fleet.startBusy(1)) as [Started];
  zombie.child.kill("SIGSTOP");
  await endWell(fleet.startWorker());
  await fleet.expectWhole();
  zombie.child.kill("SIGCONT");
  fleet.injected++;
  await endWell(zombie);
});

chaosTest("SIGKILL between a file's upload and its job's completion", { documents: 1500 }, async (fleet) => {
  await fleet.enqueue();
  const env = { NODE_OPTIONS: `--import ${DIE_UPLOADED}` };
  for (let kills = 0; kills < 3; kills++) {
    const died = await fleet.startWorker({ env }).finished;
    if (died.code === 0) break;
    fleet.injected++;
    const { stdout } = await fleet.command("status", "--json");
    // A worker that took up a dead one's job has found the file there and died at that completion.
    expect((JSON.parse(stdout) as { files: number }).files).toBeGreaterThan(0);
  }
  expect(fleet.injected).toBeGreaterThan(0);
  await endWell(fleet.startWorker());
});

chaosTest("clocks that jump hours to and fro", { documents: 1500 }, async (fleet) => {
  await fleet.enqueue();
  const env = { NODE_OPTIONS: `--import ${CLOCK}`, CLOCK_SEED: String(Math.ceil(fleet.random() * 1000)) };
  const [first, second] = await endWell(fleet.startWorker({ env }), fleet.startWorker({ env }), fleet.startWorker());
  for (const { stderr } of [first!, second!]) fleet.injected += stderr.split("the clock jumped").length - 1;
  expect(fleet.injected).toBeGreaterThan(0);
});

chaosTest("a device that hangs: its worker ends, and another takes its jobs", { documents: 1500 }, async (fleet) => {
  await fleet.enqueue();
  const env = { NODE_OPTIONS: `--import ${HANG}` };
  const hung = await fleet.startWorker({ env, flags: ["--max-batch-seconds", "1"] }).finished;
  expect(hung.code).toBeNull();
  expect(hung.stderr).toContain("cpu has not answered for 1 seconds");
  fleet.injected++;
  await endWell(fleet.startWorker());
});

chaosTest("SIGTERM: what is begun is finished, the rest goes back at once", { documents: 2000 }, async (fleet) => {
  const [worker] = (await fleet.startBusy(1)) as [Started];
  worker.child.kill("SIGTERM");
  fleet.injected++;
  await endWell(worker);
  const { stdout } = await fleet.withQueue("status", "--json");
  expect(JSON.parse(stdout)).toMatchObject({ queue: { active: 0 } });
  await endWell(fleet.startWorker());
});

const poison = { id: "poison", text: "this row kills: ☠☠☠ and nothing else does" };
const withPoison = { documents: 400, extraLines: [JSON.stringify(poison)] };

chaosTest("a row that kills the process is found and rejected; all others are embedded", withPoison, async (fleet) => {
  await fleet.enqueue();
  const env = { NODE_OPTIONS: `--import ${POISON}` };
  let deaths = 0;
  let last = await fleet.startWorker({ env }).finished;
  for (; last.code !== 0 && deaths < 6; deaths++) {
    await sleep(LOCK_SECONDS * 1000);
    last = await fleet.startWorker({ env }).finished;
  }
  expect(last.code, last.stderr).toBe(0);
  expect(deaths).toBeGreaterThan(0);
  fleet.injected += deaths;
  expect(last.stderr).toContain("a row crashes the model; rejected");
  return ["poison"];
});

chaosTest("a worker with a mistyped store or other weights among good ones", { documents: 1500 }, async (fleet) => {
  await fleet.enqueue();
  const mistyped = fleet.startWorker({ flags: ["--out", `file://${await tempFolder()}`] });
  const updated = fleet.startWorker({ flags: ["--model", await otherWeights()] });
  for (const [wrong, why] of [
    [mistyped, /^error: there is no run in file:/m],
    [updated, /^error: run r wants model mini 125c87caefd4, setup \w+; this worker has model mini /m],
  ] as const) {
    const { code, stderr } = await wrong.finished;
    expect(code).toBe(1);
    expect(stderr).toMatch(why);
    fleet.injected++;
  }
  const { stdout } = await fleet.withQueue("status", "--json");
  expect(JSON.parse(stdout)).toMatchObject({ queue: { active: 0, failed: 0 } });
  await endWell(fleet.startWorker(), fleet.startWorker());
});

chaosTest(
  "a loader with a fault: its job fails after five tries, and the worker says so",
  { documents: 500 },
  async (fleet) => {
    await fleet.enqueue();
    const { code, stderr } = await fleet.startWorker({ env: { NODE_OPTIONS: `--import ${BROKEN_LOADER}` } }).finished;
    expect(code).toBe(1);
    expect(stderr).toMatch(/^error: run r is not sealed: 1 of its \d+ shards .*tried 5 times, last: rows\.map is not/m);
    expect(stderr).toMatch(/^ {2}fix the cause, then: embedfleet resume r /m);
    fleet.injected += stderr.split("will be tried again").length;
    await endWell(fleet.withQueue("resume"));
    await endWell(fleet.startWorker());
  },
);
