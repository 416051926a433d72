/** What the probe at start thinks of the S3 server at hand; `npm run test:s3-servers` reads it of several. */
import { randomUUID } from "node:crypto";
import { expect, test } from "vitest";
import { openStore } from "../../src/adapters/open-store.ts";
import { type ProbeFailure, isEssential, probeStore } from "../../src/run/probe-store.ts";
import { describeS3 } from "../fixtures/describe-s3.ts";

declare module "vitest" {
  interface TaskMeta {
    probe?: (ProbeFailure & Readonly<{ isEssential: boolean }>)[];
  }
}

describeS3("S3", ({ bucket, endpoint, region, credentials }) => {
  test("the probe finds nothing that the fleet needs and the server lacks", async ({ task }) => {
    const store = await openStore(`s3://${bucket}/${randomUUID()}`, { s3: { endpoint, region, credentials } });
    const failures = await probeStore(store, { allowUnsafe: true }).finally(() => store.close());
    task.meta.probe = failures.map((failure) => ({ ...failure, isEssential: isEssential(failure.property) }));
    expect(failures).toEqual([]);
  });
});
