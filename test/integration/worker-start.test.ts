/** How a worker begins: what it checks first, and what it says while it waits. */
import { randomUUID } from "node:crypto";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { pino } from "pino";
import { expect, inject, onTestFinished, test } from "vitest";
import { FleetError } from "../../src/core/errors.ts";
import { enqueueCorpus } from "../../src/fleet/enqueue-corpus.ts";
import { helpProduce } from "../../src/fleet/help-produce.ts";
import { startWorker } from "../../src/fleet/start-worker.ts";
import { tempFolder } from "../fixtures/temp-folder.ts";

const GOOD = { out: "/there/is/no/such/folder", redis: "redis://127.0.0.1:6379" };
const BAD: readonly (readonly [string, Readonly<Partial<typeof GOOD>>])[] = [
  ["a Redis of another scheme", { redis: "http://127.0.0.1:6379" }],
  ["a Redis without a port", { redis: "redis://127.0.0.1:port" }],
  ["a store of another scheme", { out: "ftp://host/folder" }],
  ["a store without a bucket", { out: "s3:///prefix" }],
];

test.each(BAD)("%s is refused before anything is read or waited for", async (_, bad) => {
  const params = { ...GOOD, ...bad, model: "no-such-model" };
  for (const begin of [
    () => startWorker(params),
    () => enqueueCorpus({ ...params, inputs: ["no-such-corpus.jsonl"] }),
    () => helpProduce({ ...params, run: "no-such-run" }),
  ])
    await expect(begin()).rejects.toMatchObject({
      code: "bad_usage",
      message: expect.stringMatching(/Redis address|the store/),
    });
});

test("a worker says once that it waits for its store's folder, and begins when that appears", async () => {
  const out = join(await tempFolder(), "mounted-late");
  const lines: Record<string, unknown>[] = [];
  const write = (line: string): void => {
    const fields = JSON.parse(line) as Record<string, unknown>;
    if (!String(fields["msg"]).includes("waiting for it to appear")) return;
    lines.push(fields);
    void mkdir(out);
  };
  const log = pino({ level: "warn" }, { write });
  const worker = await startWorker({ out, redis: inject("redisUrl"), fleet: randomUUID(), model: "mini", log });
  onTestFinished(() => worker.stop());
  expect(lines).toEqual([expect.objectContaining({ folder: out, waitSeconds: 30 })]);
});

test("a Redis that is not there is said before the store's folder is waited for", async () => {
  const log = pino({ level: "silent" });
  const redis = "redis://127.0.0.1:1";
  await expect(startWorker({ ...GOOD, redis, model: "mini", log })).rejects.toSatisfy(
    (error) => error instanceof FleetError && error.code === "redis_unavailable",
  );
});
