/** What happens to the store: errors, slow answers, lost answers, cut bodies, no answers, a full disk, lost and damaged objects. */
import { execFileSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, onTestFinished } from "vitest";
import { describeS3 } from "../fixtures/describe-s3.ts";
import { FaultProxy } from "../fixtures/fault-proxy.ts";
import { type ChaosFleet, chaosTest, endWell } from "./chaos-fleet.ts";

describeS3("S3 through a proxy", ({ endpoint, region, bucket, credentials }) => {
  const env = { AWS_ACCESS_KEY_ID: credentials.accessKeyId, AWS_SECRET_ACCESS_KEY: credentials.secretAccessKey };
  const store = { out: `s3://${bucket}/chaos-${randomUUID()}`, env };

  chaosTest(
    "500, 503, resets, stalls, timeouts, lost answers and cut bodies",
    { documents: 1500, store },
    async (fleet) => {
      const proxy = await FaultProxy.start({ upstream: endpoint, random: fleet.random });
      onTestFinished(() => proxy.close());
      fleet.useStoreFlags("--s3-endpoint", proxy.url, "--s3-region", region, "--s3-timeout-seconds", "3");
      proxy.faultShare = 0.1;
      let planned = await fleet.startProducer().finished;
      // A producer may give up on a store that fails too often; the same command continues.
      for (let tries = 0; planned.code !== 0 && tries < 5; tries++) planned = await fleet.startProducer().finished;
      expect(planned.code, planned.stderr).toBe(0);
      await endWell(fleet.untilWorkerEndsWell(), fleet.untilWorkerEndsWell());
      proxy.faultShare = 0;
      fleet.injected = Object.values(proxy.injected).reduce((sum, count) => sum + count, 0);
      expect(fleet.injected).toBeGreaterThan(0);
    },
  );
});

chaosTest(
  "a window's plan is lost: nothing is sealed until the producer is run again",
  { documents: 1500 },
  async (fleet) => {
    await fleet.enqueue();
    await rm(join(planFolder(fleet), "w000000.json"));
    fleet.injected++;
    const lost = /the plan of run r in .* is incomplete: plan\/w000000\.json does not exist/;
    const { code, stderr } = await fleet.startWorker().finished;
    expect(code, stderr).toBe(1);
    expect(stderr).toMatch(lost);
    const sealed = await fleet.command("seal");
    expect([sealed.code, sealed.stdout]).toEqual([1, ""]);
    expect(sealed.stderr).toMatch(lost);
    await fleet.enqueue();
    await endWell(fleet.startWorker());
  },
);

chaosTest(
  "a bit of the staged token ids flips: its shard fails, and is staged anew",
  { documents: 1500 },
  async (fleet) => {
    await fleet.enqueue();
    const path = join(planFolder(fleet), "w000000.arrows");
    const staged = await readFile(path);
    const at = Math.floor(fleet.random() * staged.length);
    staged[at]! ^= 1 << Math.floor(fleet.random() * 8);
    await writeFile(path, staged);
    fleet.injected++;
    const { code, stderr } = await fleet.startWorker().finished;
    expect(code, stderr).toBe(1);
    expect(stderr).toMatch(/the staged rows of shard w000000-s\d{4} of run r have sha256 \w+; \w+ was planned/);
    await rm(path);
    await fleet.enqueue();
    await endWell(fleet.withQueue("resume"));
    await endWell(fleet.startWorker());
  },
);

function planFolder(fleet: ChaosFleet): string {
  return join(fleet.out.slice("file://".length), "runs", "r", "plan");
}

/** A disk of its own, of a size that can be changed. Mounting takes root, which tests in containers are. */
async function mountDisk(path: string, size: string): Promise<void> {
  await mkdir(path, { recursive: true });
  execFileSync("mount", ["-t", "tmpfs", "-o", `size=${size}`, "embedfleet-test", path]);
  onTestFinished(() => void execFileSync("umount", ["--lazy", path]));
}

const isRoot = process.getuid?.() === 0;
describe.skipIf(!isRoot)("a disk of the test's own (needs root, to mount it)", () => {
  chaosTest("a full disk: workers end and say so, and go on when there is room", { documents: 1500 }, async (fleet) => {
    const folder = fleet.out.slice("file://".length);
    await mountDisk(folder, "64m");
    await fleet.enqueue();
    // Room for the probe at start, and hardly for a result.
    execFileSync("mount", ["-o", `remount,size=${usedKilobytes(folder) + 200}k`, folder]);
    const ended = await Promise.all([fleet.startWorker().finished, fleet.startWorker().finished]);
    for (const { code, stderr } of ended) {
      expect(code).toBe(1);
      expect(stderr).toMatch(/the disk with .* is full/);
    }
    fleet.injected++;
    execFileSync("mount", ["-o", "remount,size=64m", folder]);
    await endWell(fleet.startWorker(), fleet.startWorker());
  });
});

function usedKilobytes(folder: string): number {
  const line = execFileSync("df", ["--output=used", "-k", folder], { encoding: "utf8" }).trimEnd().split("\n").at(-1)!;
  return Number(line);
}
