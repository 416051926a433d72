/** A cancelled run stays as it is: no job of it is queued, worked on, sealed or resumed again. */
import { randomUUID } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, inject, test } from "vitest";
import { cli } from "../fixtures/cli.ts";
import { makeCorpus } from "../fixtures/made-corpus.ts";
import { tempFolder } from "../fixtures/temp-folder.ts";

test("cancel empties the queue, and everything that would go on says no and what to do", async () => {
  const folder = await tempFolder();
  const corpus = join(folder, "corpus.jsonl");
  await writeFile(corpus, makeCorpus({ documents: 40, seed: 3 }));
  const out = `file://${join(folder, "out")}`;
  const common = ["--out", out, "--redis", inject("redisUrl"), "--fleet", randomUUID(), "--log-level", "error"];
  const enqueue = ["enqueue", corpus, ...common, "--run", "gone"];
  expect((await cli(enqueue)).code).toBe(0);

  const unconfirmed = await cli(["cancel", "gone", ...common]);
  expect(unconfirmed).toMatchObject({ code: 2, stderr: expect.stringContaining("confirm with --yes") as string });
  const first = await cli(["cancel", "gone", ...common, "--yes", "--json"]);
  expect(JSON.parse(first.stdout)).toEqual({ run: "gone", isNew: true, removed: expect.any(Number) });
  expect(JSON.parse(first.stdout).removed).toBeGreaterThan(0);
  const again = await cli(["cancel", "gone", ...common, "--yes", "--json"]);
  expect(JSON.parse(again.stdout)).toEqual({ run: "gone", isNew: false, removed: 0 });

  const status = JSON.parse((await cli(["status", "gone", ...common, "--json"])).stdout);
  expect(status).toMatchObject({ state: "cancelled", shards: 0, queue: { waiting: 0, active: 0, failed: 0 } });
  for (const args of [enqueue, ["resume", "gone", ...common], ["seal", "gone", "--out", out]]) {
    const { code, stderr } = await cli(args);
    expect(code).toBe(1);
    expect(stderr).toContain("run gone was cancelled");
    expect(stderr).toContain("--run id");
  }
});

test("a sealed run cannot be cancelled", async () => {
  const folder = await tempFolder();
  const corpus = join(folder, "corpus.jsonl");
  await writeFile(corpus, makeCorpus({ documents: 3, seed: 4 }));
  const out = `file://${join(folder, "out")}`;
  await cli(["run", corpus, "--out", out, "--run", "whole", "--heads", "dense", "--log-level", "error"]);
  const { code, stderr } = await cli(["cancel", "whole", "--yes", "--out", out, "--redis", inject("redisUrl")]);
  expect(code).toBe(1);
  expect(stderr).toContain("run whole is sealed");
});
