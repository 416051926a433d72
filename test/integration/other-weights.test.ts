/** A run's jobs are done by workers with the run's own weights, however alike another folder looks. */
import { randomUUID } from "node:crypto";
import { readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Queue } from "bullmq";
import { expect, inject, test } from "vitest";
import { connectRedis } from "../../src/adapters/redis/connect.ts";
import { QUEUE_PREFIX } from "../../src/adapters/redis/queue-options.ts";
import { cli } from "../fixtures/cli.ts";
import { ExternalFolders } from "../fixtures/external-folder.ts";
import { queueNameIn } from "../fixtures/queue-name.ts";
import { tempFolder } from "../fixtures/temp-folder.ts";

const LOCATION = "sub/weights.pt";

test("a worker whose weights differ in a file that only the graph names does no job, and the run's own does all", async () => {
  const made = new ExternalFolders([LOCATION]);
  const own = await made.make({ location: LOCATION });
  const other = await made.make({ location: LOCATION, weights: made.weights(true) });
  const [out, fleet] = [await tempFolder(), randomUUID()];
  const corpus = join(out, "corpus.jsonl");
  await writeFile(corpus, '{"id":"a","text":"w7 w9"}\n{"id":"b","text":"w8"}\n');
  const store = join(out, "out");
  const common = ["--out", store, "--redis", inject("redisUrl"), "--fleet", fleet, "--log-level", "silent"];
  const planned = ["--run", "r", "--heads", "dense", "--max-tokens", "66"];
  const enqueued = await cli(["enqueue", corpus, ...common, ...planned, "--model", own]);
  expect(enqueued.code, enqueued.stderr).toBe(0);

  const work = (model: string) => cli(["work", ...common, "--model", model, "--threads", "1", "--exit-when-done"]);
  const refused = await work(other);
  expect(refused.code).toBe(1);
  expect(refused.stderr).toMatch(/run r wants model little [0-9a-f]{12}.*; this worker has model little [0-9a-f]{12}/);
  expect(await readdir(join(store, "runs/r"))).not.toContain("data");
  const redis = connectRedis(inject("redisUrl"));
  const queue = new Queue(await queueNameIn(store, fleet, "little"), { connection: redis, prefix: QUEUE_PREFIX });
  expect(await queue.getJobCounts("failed", "prioritized")).toEqual({ failed: 0, prioritized: 1 });
  await queue.close();
  redis.disconnect();

  expect(await work(own)).toMatchObject({ code: 0, stderr: "" });
  expect(await cli(["verify", store, "r"])).toMatchObject({ code: 0 });
});
