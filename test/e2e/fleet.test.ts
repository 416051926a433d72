/** The main job as users run it: real processes, a real Redis, a real S3 server, real sessions. */
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pl from "nodejs-polars";
import { afterAll, beforeAll, describe, expect, inject, test } from "vitest";
import { describeS3 } from "../fixtures/describe-s3.ts";
import { cli, cliInProcess, startCli } from "../fixtures/cli.ts";
import { makeCorpus } from "../fixtures/made-corpus.ts";

const DOCUMENTS = 240;
const redis = inject("redisUrl");
let folder = "";
let corpus = "";

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "embedfleet-e2e-"));
  corpus = join(folder, "corpus.jsonl");
  await writeFile(corpus, makeCorpus({ documents: DOCUMENTS, seed: 7 }));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

describe("one machine", () => {
  let out = "";
  beforeAll(async () => {
    out = `file://${join(folder, "one")}`;
    const done = await cli([
      "run",
      corpus,
      "--out",
      out,
      "--run",
      "one",
      "--keep-text",
      "--json",
      "--log-level",
      "warn",
    ]);
    expect(done.stderr).not.toMatch(/error/i);
    expect(done.code).toBe(0);
    const report = JSON.parse(done.stdout);
    expect(report).toMatchObject({ run: "one", state: "sealed", documents: DOCUMENTS, rows: DOCUMENTS, rejects: 0 });
    expect(report.realTokens / report.paddedTokens).toBeGreaterThan(0.95);
  });

  test("verify finds every row once", async () => {
    const { code, stdout } = await cli(["verify", out, "--json"]);
    expect(JSON.parse(stdout)).toMatchObject({
      ok: true,
      rows: DOCUMENTS,
      missing: 0,
      duplicates: 0,
      nonFinite: 0,
      badNorm: 0,
      badHash: 0,
    });
    expect(code).toBe(0);
  });

  test("verify and search see a damaged file", async () => {
    const copy = join(folder, "damaged");
    await cp(join(folder, "one"), copy, { recursive: true });
    const victim = join(copy, "runs/one/data/w000000-s0000.arrow");
    const bytes = await readFile(victim);
    // Among the vectors: of the metadata, which stand at both ends, some would be two faults.
    bytes[bytes.length >> 1]! ^= 0x40;
    await writeFile(victim, bytes);
    const { code, stdout } = await cli(["verify", copy, "one", "--json"]);
    expect(code).toBe(1);
    expect(JSON.parse(stdout)).toMatchObject({ ok: false, badHash: 1 });
  });

  test("search finds the document that shares the query's words", async () => {
    const { stdout } = await cli([
      "search",
      out,
      "document number 217",
      "--json",
      "--top",
      "5",
      "--log-level",
      "silent",
    ]);
    const hits: { id: string; chunk: number; score: number }[] = JSON.parse(stdout);
    expect(hits).toHaveLength(5);
    expect(hits.map((hit) => hit.score)).toEqual(hits.map((hit) => hit.score).toSorted((a, b) => b - a));
    expect(hits.map((hit) => hit.id)).toContain("d217");
  });

  test("search weighs the heads as told and shows the text", async () => {
    const query = ["search", out, "document number 217", "--text", "--json", "--top", "1", "--log-level", "silent"];
    const [sparse] = JSON.parse((await cli([...query, "--weights", "0,1,0"])).stdout);
    expect(sparse).toMatchObject({ id: "d217", text: expect.stringContaining("document number 217:") });
    const none = await cliInProcess([...query, "--weights", "0,0,0"]);
    expect(none.code).toBe(2);
    expect(none.stderr).toContain("three numbers of at least 0, not all 0");
  });

  test("Polars reads the files without code of ours", () => {
    const table = pl.scanIPC(`${join(folder, "one")}/runs/one/data/*.arrow`).collectSync();
    expect(table.columns).toEqual([
      "id",
      "chunk",
      "char_start",
      "char_end",
      "n_tokens",
      "text_hash",
      "dense",
      "sparse",
      "colbert",
      "text",
    ]);
    expect(table.height).toBe(DOCUMENTS);
    expect(table.getColumn("id").nUnique()).toBe(DOCUMENTS);
    const dense = table.getColumn("dense").toArray() as unknown as number[][];
    const norm = Math.hypot(...dense[0]!);
    expect(dense[0]).toHaveLength(256);
    expect(norm).toBeCloseTo(1, 4);
  });

  test("the same run again is a continuation that changes nothing, and other options are refused", async () => {
    const same = await cli([
      "enqueue",
      corpus,
      "--out",
      out,
      "--run",
      "one",
      "--keep-text",
      "--redis",
      redis,
      "--fleet",
      randomUUID(),
      "--log-level",
      "silent",
    ]);
    expect(same.code).toBe(0);
    const other = await cli([
      "enqueue",
      corpus,
      "--out",
      out,
      "--run",
      "one",
      "--redis",
      redis,
      "--log-level",
      "silent",
    ]);
    expect(other.code).toBe(1);
    expect(other.stderr).toContain("keepText is true there and false here");
  });
});

describe("several machines", () => {
  test("two workers, one killed without notice, lose and double nothing", async () => {
    const out = `file://${join(folder, "killed")}`;
    const fleet = `kill-${randomUUID()}`;
    const common = ["--out", out, "--redis", redis, "--fleet", fleet, "--log-level", "info"];
    const planned = await cli(["enqueue", corpus, ...common, "--run", "killed", "--heads", "dense"]);
    expect(planned.code).toBe(0);
    const victim = startCli(["work", ...common, "--threads", "1"]);
    await untilOutput(victim.child.stderr!, "the worker is ready");
    victim.child.kill("SIGKILL");
    await victim.finished;
    const survivor = await cli(["work", ...common, "--exit-when-done", "--threads", "2"]);
    expect(survivor.code).toBe(0);
    const verified = await cli(["verify", out, "killed", "--json"]);
    expect(JSON.parse(verified.stdout)).toMatchObject({
      ok: true,
      sealed: true,
      rows: DOCUMENTS,
      duplicates: 0,
      missing: 0,
    });
  }, 300_000);

  test("a queue that was wiped is rebuilt from the store by resume", async () => {
    const out = `file://${join(folder, "wiped")}`;
    const common = ["--out", out, "--redis", redis, "--log-level", "silent"];
    await cli(["enqueue", corpus, ...common, "--run", "wiped", "--fleet", `gone-${randomUUID()}`, "--heads", "dense"]);
    const fleet = ["--fleet", `new-${randomUUID()}`];
    const early = await cli(["seal", "wiped", "--out", out]);
    expect(early.code).toBe(1);
    expect(early.stderr).toContain("have no result file yet");
    const resumed = await cli(["resume", "wiped", ...common, ...fleet, "--json"]);
    expect(JSON.parse(resumed.stdout)).toMatchObject({ done: 0 });
    expect((await cli(["work", ...common, ...fleet, "--exit-when-done"])).code).toBe(0);
    expect(JSON.parse((await cli(["status", "wiped", ...common, ...fleet, "--json"])).stdout)).toMatchObject({
      state: "sealed",
      rows: DOCUMENTS,
    });
  });

  describeS3("S3", ({ endpoint, region, bucket, credentials }) => {
    test("enqueue and two workers", async () => {
      const env = { AWS_ACCESS_KEY_ID: credentials.accessKeyId, AWS_SECRET_ACCESS_KEY: credentials.secretAccessKey };
      const out = `s3://${bucket}/e2e-${randomUUID()}`;
      const store = ["--s3-endpoint", endpoint, "--s3-region", region, "--log-level", "warn"];
      const common = ["--out", out, "--redis", redis, "--fleet", randomUUID(), ...store];
      expect((await cli(["enqueue", corpus, ...common, "--run", "cloud", "--heads", "dense"], env)).code).toBe(0);
      const workers = await Promise.all(
        [1, 2].map(() => cli(["work", ...common, "--exit-when-done", "--threads", "1", "--json"], env)),
      );
      expect(workers.map((worker) => worker.code)).toEqual([0, 0]);
      const report = JSON.parse((await cli(["seal", "cloud", "--out", out, ...store, "--json"], env)).stdout);
      expect(report).toMatchObject({ state: "sealed", rows: DOCUMENTS });
      expect(JSON.parse((await cli(["verify", out, "--json", ...store], env)).stdout)).toMatchObject({
        ok: true,
        rows: DOCUMENTS,
      });
    }, 300_000);
  });
});

async function untilOutput(stream: NodeJS.ReadableStream, text: string): Promise<void> {
  let seen = "";
  while (!seen.includes(text)) seen += String((await once(stream, "data"))[0]);
}
