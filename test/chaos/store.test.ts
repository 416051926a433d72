/** What happens to the store: errors, slow answers, lost answers, cut bodies. */
import { randomUUID } from "node:crypto";
import { describe, expect, inject, onTestFinished, test } from "vitest";
import { FaultProxy } from "../fixtures/fault-proxy.ts";
import { randomOf } from "../fixtures/made-corpus.ts";
import { ChaosFleet, expectGoodEnd, LIMIT_MS, SEEDS } from "./chaos-fleet.ts";

const s3 = inject("s3");

describe.skipIf(s3 === null).each(SEEDS)("seed %i", (seed) => {
  test(
    "S3 answers 500 and 503, resets, stalls, loses answers and cuts bodies short",
    async () => {
      const { endpoint, region, bucket, credentials } = s3!;
      const proxy = await FaultProxy.start({ upstream: endpoint, random: randomOf(seed) });
      onTestFinished(() => proxy.close());
      const fleet = await ChaosFleet.start({
        documents: 1500,
        seed,
        store: {
          out: `s3://${bucket}/chaos-${randomUUID()}`,
          flags: ["--s3-endpoint", proxy.url, "--s3-region", region],
          env: { AWS_ACCESS_KEY_ID: credentials.accessKeyId, AWS_SECRET_ACCESS_KEY: credentials.secretAccessKey },
        },
      });
      proxy.faultShare = 0.1;
      let planned = await fleet.startProducer().finished;
      // A producer may give up on a store that fails too often; the same command continues.
      for (let tries = 0; planned.code !== 0 && tries < 5; tries++) planned = await fleet.startProducer().finished;
      expectGoodEnd(planned);
      const workers = await Promise.all([0, 1].map(() => fleet.untilWorkerEndsWell()));
      expectGoodEnd(...workers);
      proxy.faultShare = 0;
      await fleet.expectWhole();
      const injected = Object.values(proxy.injected).reduce((sum, count) => sum + count, 0);
      console.log("faults injected", proxy.injected);
      expect(injected).toBeGreaterThan(0);
    },
    LIMIT_MS,
  );
});
