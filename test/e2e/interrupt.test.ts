/** Commands ended in every way that a terminal and an operator know: most of all `run` with its private Redis. */
import { type ChildProcess, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdir, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Redis } from "ioredis";
import { expect, inject, onTestFinished, test } from "vitest";
import { CLI, cli, startCli } from "../fixtures/cli.ts";
import { waitUntil } from "../fixtures/guarded-process.ts";
import { makeCorpus } from "../fixtures/made-corpus.ts";
import { startRedis } from "../fixtures/redis-server.ts";
import { TcpProxy } from "../fixtures/tcp-proxy.ts";
import { tempFolder } from "../fixtures/temp-folder.ts";

interface Interrupted {
  readonly command: readonly string[];
  readonly child: ChildProcess;
  readonly ended: Promise<{ code: number | null; stderr: string }>;
  readonly redisPid: number;
  readonly out: string;
}

/** Planned, and at work on a corpus that takes it a while; its processes are a group, as a terminal's job is. */
async function begun(): Promise<Interrupted> {
  const folder = await tempFolder();
  const corpus = join(folder, "corpus.jsonl");
  await writeFile(corpus, makeCorpus({ documents: 250, seed: 11 }));
  const temporary = join(folder, "tmp");
  await mkdir(temporary);
  const out = join(folder, "out");
  const command = ["run", corpus, "--out", out, "--run", "broken-off", "--log-level", "warn"];
  const env = { ...process.env, TMPDIR: temporary };
  const child = spawn(process.execPath, [CLI, ...command], {
    env,
    detached: true,
    stdio: ["ignore", "ignore", "pipe"],
  });
  let stderr = "";
  child.stderr.on("data", (chunk: Buffer) => (stderr += chunk.toString()));
  const ended = once(child, "close").then(([code]) => ({ code: code as number | null, stderr }));
  const isPlanned = await waitUntil({
    ready: async () => existsSync(join(out, "runs/broken-off/plan/closed.json")),
    alive: () => child.exitCode === null,
    timeoutMs: 60_000,
  });
  expect(isPlanned, stderr).toBe(true);
  return { command, child, ended, redisPid: await redisPidIn(temporary), out };
}

async function redisPidIn(temporary: string): Promise<number> {
  const [folder] = (await readdir(temporary)).filter((name) => name.startsWith("embedfleet-redis-"));
  const redis = new Redis(join(temporary, folder!, "redis.sock"));
  try {
    return Number(/process_id:(\d+)/.exec(await redis.info("server"))![1]);
  } finally {
    redis.disconnect();
  }
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

test("Ctrl-C reaches every process of the job and ends it well; the same command goes on", async () => {
  const { command, child, ended, redisPid, out } = await begun();
  process.kill(-child.pid!, "SIGINT");
  const { code, stderr } = await ended;
  expect(code).toBe(130);
  expect(stderr).toContain("stopped by SIGINT\n  the same command with --run broken-off continues");
  expect(stderr).not.toMatch(/redis|lease|crashed/i);
  expect(isAlive(redisPid)).toBe(false);
  expect((await cli(command)).code).toBe(0);
  expect(JSON.parse((await cli(["verify", out, "--json"])).stdout)).toMatchObject({ ok: true, rows: 250 });
});

/** A run of two workers that reads a corpus without an end; its processes are a group, as a terminal's job is. */
async function planning(): Promise<Pick<Interrupted, "child" | "ended">> {
  const out = join(await tempFolder(), "out");
  const args = ["run", "-", "--out", out, "--run", "planned", "--workers", "2", "--threads", "2"];
  const child = spawn(process.execPath, [CLI, ...args], { detached: true, stdio: ["pipe", "ignore", "pipe"] });
  onTestFinished(() => void child.kill("SIGKILL"));
  let stderr = "";
  child.stderr.on("data", (chunk: Buffer) => (stderr += chunk.toString()));
  child.stdin.on("error", () => {});
  child.stdin.write(makeCorpus({ documents: 3, seed: 15 }));
  const ended = once(child, "close").then(([code]) => ({ code: code as number | null, stderr }));
  const ready = async (): Promise<boolean> => stderr.includes("a new run begins");
  expect(await waitUntil({ ready, alive: () => child.exitCode === null, timeoutMs: 60_000 }), stderr).toBe(true);
  return { child, ended };
}

test.each([
  ["SIGINT", 130],
  ["SIGTERM", 143],
] as const)(
  "%s to every process while the corpus is read: no worker that ends by it has crashed",
  async (name, code) => {
    const { child, ended } = await planning();
    process.kill(-child.pid!, name);
    const finished = await ended;
    expect(finished.code).toBe(code);
    expect(finished.stderr).toContain(`stopped by ${name}\n  the same command with --run planned continues`);
    expect(finished.stderr).not.toMatch(/crash|restart/);
  },
);

test("a second Ctrl-C ends the command at once, and no worker counts as crashed", async () => {
  const { child, ended } = await planning();
  process.kill(-child.pid!, "SIGINT");
  process.kill(-child.pid!, "SIGINT");
  const { stderr } = await ended;
  expect(child.signalCode ?? child.exitCode).toSatisfy((how) => how === "SIGINT" || how === 130);
  expect(stderr).not.toMatch(/crash|restart/);
});

test("a private Redis that is killed ends the command, which says so", async () => {
  const { ended, redisPid } = await begun();
  process.kill(redisPid, "SIGKILL");
  const { code, stderr } = await ended;
  expect(code).toBe(1);
  expect(stderr).toContain("the private redis-server is gone: it ended with SIGKILL");
  expect(stderr).toContain("the same command with --run broken-off continues");
});

test("a private Redis is gone with its command, even one that is killed", async () => {
  const { child, ended, redisPid } = await begun();
  process.kill(-child.pid!, "SIGKILL");
  await ended;
  const isGone = await waitUntil({ ready: async () => !isAlive(redisPid), alive: () => true, timeoutMs: 10_000 });
  expect(isGone).toBe(true);
});

test("enqueue that waits for more documents from a pipe ends when told to, and says how the run goes on", async () => {
  const folder = await tempFolder();
  const out = join(folder, "out");
  const args = ["enqueue", "-", "--out", out, "--redis", inject("redisUrl"), "--fleet", randomUUID()];
  const child = spawn(process.execPath, [CLI, ...args], { stdio: ["pipe", "ignore", "pipe"] });
  let stderr = "";
  child.stderr.on("data", (chunk: Buffer) => (stderr += chunk.toString()));
  const ended = once(child, "close");
  child.stdin.write(makeCorpus({ documents: 3, seed: 12 }));
  const isBegun = await waitUntil({
    ready: async () => stderr.includes("a new run begins"),
    alive: () => child.exitCode === null,
    timeoutMs: 60_000,
  });
  expect(isBegun, stderr).toBe(true);
  child.kill("SIGINT");
  expect(await ended).toEqual([130, null]);
  expect(stderr).toMatch(/stopped by SIGINT\n {2}the same command with --run \S+ continues/);
});

test("enqueue whose Redis falls silent ends by one signal, and the same command completes the run", async () => {
  const out = join(await tempFolder(), "out");
  const redis = await startRedis();
  onTestFinished(() => redis.stop());
  const proxy = await TcpProxy.start(redis.port);
  onTestFinished(() => proxy.close());
  const args = ["enqueue", "-", "--out", out, "--run", "silent", "--fleet", randomUUID(), "--redis"];
  const child = spawn(process.execPath, [CLI, ...args, proxy.url], { stdio: ["pipe", "ignore", "pipe"] });
  onTestFinished(() => void child.kill("SIGKILL"));
  let stderr = "";
  child.stderr.on("data", (chunk: Buffer) => (stderr += chunk.toString()));
  const ended = once(child, "close");
  const corpus = makeCorpus({ documents: 3, seed: 14, maxWords: 10 });
  child.stdin.write(corpus);
  const until = async (ready: () => Promise<boolean>): Promise<void> => {
    const isReady = await waitUntil({ ready, alive: () => child.exitCode === null, timeoutMs: 60_000 });
    expect(isReady, stderr).toBe(true);
  };
  await until(async () => stderr.includes("a new run begins"));
  proxy.swallow();
  child.stdin.end();
  await until(async () => stderr.includes("Redis does not answer"));
  child.kill("SIGINT");
  expect(await ended).toEqual([130, null]);
  expect(stderr).toContain("stopped by SIGINT\n  the same command with --run silent continues");
  expect(stderr).toContain("no server answered for 10 s after SIGINT: the command ends");
  const again = await startCli([...args, redis.url], {}, corpus).finished;
  expect(again.code, again.stderr).toBe(0);
  expect(again.stdout).toContain("3 documents");
});

test("status --watch goes on without a Redis that dies, sees it come back, and ends when told to while it is away", async () => {
  const folder = await tempFolder();
  const out = join(folder, "out");
  const corpus = join(folder, "corpus.jsonl");
  await writeFile(corpus, makeCorpus({ documents: 3, seed: 13 }));
  const redis = await startRedis();
  onTestFinished(() => redis.stop());
  const place = ["--out", out, "--redis", redis.url];
  expect((await cli(["enqueue", corpus, ...place, "--run", "watched"])).code).toBe(0);
  const { child, finished } = startCli(["status", "watched", "--watch", ...place]);
  let seen = "";
  child.stdout!.on("data", (chunk: Buffer) => (seen += chunk.toString()));
  const untilSeen = async (what: string): Promise<void> => {
    seen = "";
    const ready = async (): Promise<boolean> => seen.includes(what);
    const isSeen = await waitUntil({ ready, alive: () => child.exitCode === null, timeoutMs: 30_000 });
    expect(isSeen, seen).toBe(true);
  };
  await untilSeen("no worker is active");
  await redis.kill();
  await untilSeen("Redis does not answer");
  await redis.start();
  await untilSeen("no worker is active");
  await redis.kill();
  await untilSeen("Redis does not answer");
  child.kill("SIGINT");
  expect((await finished).code).toBe(0);
});
