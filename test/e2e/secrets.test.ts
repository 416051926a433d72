/** Whoever listens to the fleet, looks at its processes or reads its store learns no password. */
import { randomBytes } from "node:crypto";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { cli, type Finished, startCli } from "../fixtures/cli.ts";
import { describeS3 } from "../fixtures/describe-s3.ts";
import { makeCorpus } from "../fixtures/made-corpus.ts";
import { type SecureRedis, startSecureRedis } from "../fixtures/secure-redis.ts";
import { tempFolder } from "../fixtures/temp-folder.ts";

const secretKey = `aws-${randomBytes(12).toString("hex")}`;

async function place(): Promise<{ folder: string; corpus: string; out: string }> {
  const folder = await tempFolder();
  const corpus = join(folder, "corpus.jsonl");
  await writeFile(corpus, makeCorpus({ documents: 40, seed: 3, maxWords: 60 }));
  return { folder, corpus, out: join(folder, "out") };
}

function environment({ url, env }: SecureRedis): Record<string, string> {
  return { ...env, REDIS_URL: url, AWS_ACCESS_KEY_ID: "planted", AWS_SECRET_ACCESS_KEY: secretKey };
}

/** The command lines of every process, as `ps` shows them to everyone. */
async function commandLines(): Promise<string> {
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
  return (await Promise.all(pids.map((pid) => readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "")))).join("\n");
}

async function everyByteOf(folder: string): Promise<string> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  expect(files.length).toBeGreaterThan(0);
  return (await Promise.all(files.map((file) => readFile(file, "latin1")))).join("\n");
}

function expectNone(text: string, ...secrets: readonly string[]): void {
  // Not `not.toContain`: a failure would print the text, and the secret with it.
  for (const secret of secrets) expect(text.includes(secret)).toBe(false);
}

function said({ stdout, stderr }: Finished): string {
  return stdout + stderr;
}

test("a run over TLS as the fleet's least-privileged user: no output, process or object has a password", async () => {
  const redis = await startSecureRedis();
  const { corpus, out } = await place();
  const flags = ["--out", out, "--run", "r", "--heads", "dense", "--threads", "1", "--log-level", "debug"];
  const running = startCli(["run", corpus, ...flags, "--workers", "2"], environment(redis));
  const seen: string[] = [];
  while (running.child.exitCode === null && running.child.signalCode === null) {
    seen.push(await commandLines());
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  const { code, stdout, stderr } = await running.finished;
  expect(code, stderr.replaceAll(redis.password, "***")).toBe(0);
  expect(seen.join("\n")).toContain("work");
  expectNone(seen.join("\n"), redis.password, secretKey);
  expectNone(stdout + stderr, redis.password, secretKey);
  expectNone(await everyByteOf(out), redis.password, secretKey);
});

test("the fleet's user is enough for every command, and for nothing beyond its keys", async () => {
  const redis = await startSecureRedis();
  const env = environment(redis);
  const { corpus, out } = await place();
  const common = ["--out", out, "--log-level", "warn"];
  const steps = [
    ["enqueue", corpus, ...common, "--run", "r", "--heads", "dense"],
    ["status", "r", ...common, "--json"],
    ["resume", "r", ...common],
    ["work", ...common, "--threads", "1", "--exit-when-done"],
    ["enqueue", corpus, ...common, "--run", "s", "--heads", "dense"],
    ["cancel", "s", "--yes", ...common],
  ];
  for (const step of steps) {
    const finished = await cli(step, env);
    expect(finished.code, `${step[0]}: ${said(finished).replaceAll(redis.password, "***")}`).toBe(0);
  }
  const { Redis } = await import("ioredis");
  const client = new Redis(redis.url, { tls: { rejectUnauthorized: false } });
  for (const [command, ...args] of [
    ["FLUSHALL"],
    ["KEYS", "*"],
    ["SET", "other", "1"],
    ["CONFIG", "SET", "dir", "/"],
    ["ACL", "LIST"],
  ] as const)
    await expect(client.call(command, ...args)).rejects.toThrow(/NOPERM/);
  client.disconnect();
});

test("a wrong password, an unknown certificate and an address that nobody answers are told without the password", async () => {
  const redis = await startSecureRedis();
  const { corpus, out } = await place();
  const command = ["enqueue", corpus, "--out", out, "--log-level", "debug"];
  const wrong = "wrong-3141592653589793";
  const attempts: [string, Readonly<Record<string, string>>, string][] = [
    ["WRONGPASS", redis.env, redis.url.replace(redis.password, wrong)],
    ["self-signed certificate", {}, redis.url.replace(redis.password, wrong)],
    ["ECONNREFUSED", redis.env, `redis://u:${wrong}@127.0.0.1:1`],
    ["sentinel 127.0.0.1:1", redis.env, `redis+sentinel://u:${wrong}@127.0.0.1:1/main?sentinelPassword=${wrong}`],
  ];
  for (const [reason, env, url] of attempts) {
    const failed = await cli(command, { ...env, REDIS_URL: url });
    expect(failed.code).toBe(1);
    expect(said(failed)).toContain(reason);
    expect(said(failed)).toContain("***@");
    expectNone(said(failed), wrong, redis.password);
  }
});

describeS3("S3", ({ endpoint, bucket }) => {
  test("refused credentials and credentials in the store's URL are told without them", async () => {
    const { corpus } = await place();
    const env = { AWS_ACCESS_KEY_ID: "planted", AWS_SECRET_ACCESS_KEY: secretKey, REDIS_URL: "redis://127.0.0.1:1" };
    const flags = ["--s3-endpoint", endpoint, "--log-level", "debug"];
    const refused = await cli(["enqueue", corpus, "--out", `s3://${bucket}/x`, ...flags], env);
    expect(refused.code).toBe(1);
    expectNone(said(refused), secretKey);
    const inUrl = await cli(["enqueue", corpus, "--out", `s3://id:${secretKey}@${bucket}/x`, ...flags], env);
    expect(inUrl.code).toBe(2);
    expectNone(said(inUrl), secretKey);
  });
});
