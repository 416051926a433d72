/** What happens to the store: errors, slow answers, lost answers, cut bodies. */
import { randomUUID } from "node:crypto";
import { expect, onTestFinished } from "vitest";
import { describeS3 } from "../fixtures/describe-s3.ts";
import { FaultProxy } from "../fixtures/fault-proxy.ts";
import { chaosTest, endWell } from "./chaos-fleet.ts";

describeS3("S3 through a proxy", ({ endpoint, region, bucket, credentials }) => {
  const env = { AWS_ACCESS_KEY_ID: credentials.accessKeyId, AWS_SECRET_ACCESS_KEY: credentials.secretAccessKey };
  const store = { out: `s3://${bucket}/chaos-${randomUUID()}`, env };

  chaosTest("500, 503, resets, stalls, lost answers and cut bodies", { documents: 1500, store }, async (fleet) => {
    const proxy = await FaultProxy.start({ upstream: endpoint, random: fleet.random });
    onTestFinished(() => proxy.close());
    fleet.useStoreFlags("--s3-endpoint", proxy.url, "--s3-region", region);
    proxy.faultShare = 0.1;
    let planned = await fleet.startProducer().finished;
    // A producer may give up on a store that fails too often; the same command continues.
    for (let tries = 0; planned.code !== 0 && tries < 5; tries++) planned = await fleet.startProducer().finished;
    expect(planned.code, planned.stderr).toBe(0);
    await endWell(fleet.untilWorkerEndsWell(), fleet.untilWorkerEndsWell());
    proxy.faultShare = 0;
    fleet.injected = Object.values(proxy.injected).reduce((sum, count) => sum + count, 0);
    expect(fleet.injected).toBeGreaterThan(0);
  });
});
