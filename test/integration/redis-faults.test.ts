/**
 * Servers that are gone, silent, replicas or others than they were: what connections to them do, and what is said.
 * These tests wait most of their time, so they wait together.
 */
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { createServer as createHttpServer } from "node:http";
import { type AddressInfo, createServer, type Server } from "node:net";
import { Writable } from "node:stream";
import { Redis } from "ioredis";
import { pino } from "pino";
import { inject, test, type TestContext } from "vitest";
import { BullLeases } from "../../src/adapters/redis/bull-leases.ts";
import { BullQueue } from "../../src/adapters/redis/bull-queue.ts";
import { checkRedis } from "../../src/adapters/redis/connect.ts";
import { RedisWatch } from "../../src/adapters/redis/redis-watch.ts";
import type { JobPayload } from "../../src/core/contracts.ts";
import type { FleetEvent } from "../../src/core/telemetry.ts";
import { freePorts } from "../fixtures/guarded-process.ts";
import { type RedisOptions, startRedis, TestRedis } from "../fixtures/redis-server.ts";
import { startSentinel } from "../fixtures/sentinel.ts";
import { TcpProxy } from "../fixtures/tcp-proxy.ts";
import { tempFolder } from "../fixtures/temp-folder.ts";

const sharedUrl = inject("redisUrl");
const WAIT = { timeout: 60_000, interval: 50 };

const JOB: JobPayload = {
  v: 1,
  run: "r",
  shard: "w000000-s0000",
  start: 0,
  end: 8,
  rows: 1,
  tokens: 8,
  longest: 8,
};

async function ownRedis(t: TestContext, options: RedisOptions = {}): Promise<TestRedis> {
  const redis = await startRedis(options);
  t.onTestFinished(() => redis.stop());
  return redis;
}

async function proxyTo(t: TestContext, port: number): Promise<TcpProxy> {
  const proxy = await TcpProxy.start(port);
  t.onTestFinished(() => proxy.close());
  return proxy;
}

function clientOf(t: TestContext, redis: TestRedis): Redis {
  const client = new Redis(redis.url, { maxRetriesPerRequest: null });
  client.on("error", () => {});
  t.onTestFinished(() => client.disconnect());
  return client;
}

function openQueue(t: TestContext, redisUrl: string): BullQueue {
  const queue = new BullQueue({ redisUrl, name: `test-${randomUUID()}` });
  t.onTestFinished(() => queue.close());
  return queue;
}

/** A watch, with the lines that it logs and the events that it tells. */
function openWatch(
  t: TestContext,
  redisUrl: string,
): { watch: RedisWatch; lines: Record<string, unknown>[]; events: FleetEvent[] } {
  const lines: Record<string, unknown>[] = [];
  const events: FleetEvent[] = [];
  const sink = new Writable({
    write(chunk: Buffer, _encoding, done) {
      lines.push(JSON.parse(chunk.toString()) as Record<string, unknown>);
      done();
    },
  });
  const watch = new RedisWatch({ redisUrl, log: pino({ base: null }, sink), observe: (event) => events.push(event) });
  t.onTestFinished(() => watch.close());
  return { watch, lines, events };
}

/** `primary` becomes a read-only replica of `successor`, which has all its data. */
async function swap(t: TestContext, primary: TestRedis, successor: TestRedis): Promise<void> {
  await clientOf(t, successor).replicaof("NO", "ONE");
  await clientOf(t, primary).replicaof("127.0.0.1", String(successor.port));
}

async function startReplicaOf(t: TestContext, primary: TestRedis): Promise<TestRedis> {
  const replica = await ownRedis(t);
  const client = clientOf(t, replica);
  await client.replicaof("127.0.0.1", String(primary.port));
  await t.expect.poll(() => client.info("replication"), WAIT).toContain("master_link_status:up");
  return replica;
}

async function listen(t: TestContext, server: Server): Promise<string> {
  server.listen(0, "127.0.0.1");
  t.onTestFinished(() => void server.close());
  await once(server, "listening");
  return `redis://me:SECRET@127.0.0.1:${(server.address() as AddressInfo).port}`;
}

const check = (url: string): Promise<string[]> => checkRedis(url, { allowVolatile: false });

test.concurrent("a server that accepts and never answers, or speaks another protocol, is given up with what was tried", async (t) => {
  const mute = createServer(() => {});
  const web = createHttpServer((_, response) => response.end("hello"));
  const urls = await Promise.all([mute, web].map((server) => listen(t, server)));
  const [silent, wrong] = await Promise.allSettled(urls.map(check));
  t.expect(silent).toMatchObject({ status: "rejected", reason: { code: "redis_unavailable" } });
  const { message, cure } = (silent as PromiseRejectedResult).reason as { message: string; cure: string };
  t.expect(message).toMatch(
    /^Redis at redis:\/\/\*\*\*@127\.0\.0\.1:\d+ did not answer within 10 s: it accepted the connection but answered neither/,
  );
  t.expect(cure).toContain("--redis");
  t.expect(wrong).toMatchObject({ status: "rejected", reason: { code: "redis_unavailable" } });
});

test.concurrent("a database that the server does not have, a node of a cluster and a replica are refused before anything begins", async (t) => {
  await t.expect(check(`${sharedUrl}/99`)).rejects.toMatchObject({
    code: "redis_unsuitable",
    message: t.expect.stringMatching(/cannot open database 99: .*DB index is out of range/),
  });
  t.expect(await check(`${sharedUrl}/15`)).toEqual([]);
  const node = await ownRedis(t, { args: ["--cluster-enabled", "yes"] });
  await t.expect(check(node.url)).rejects.toMatchObject({
    code: "redis_unsuitable",
    message: t.expect.stringContaining("is a node of a cluster"),
  });
  const primary = await ownRedis(t);
  const replica = await startReplicaOf(t, primary);
  await t.expect(check(replica.url)).rejects.toMatchObject({
    code: "redis_unsuitable",
    message: t.expect.stringContaining(`is a read-only replica of 127.0.0.1:${primary.port}`),
  });
});

test.concurrent("a queue that is opened while there is no server works when there is one", async (t) => {
  const [port] = await freePorts(1);
  const queue = openQueue(t, `redis://127.0.0.1:${port}`);
  await new Promise((resolve) => setTimeout(resolve, 500));
  const server = new TestRedis({ port: port!, folder: await tempFolder(), args: [] });
  t.onTestFinished(() => server.stop());
  await server.start();
  t.expect(await queue.counts()).toEqual({ waiting: 0, active: 0, failed: 0 });
});

test.concurrent("jobs that a cut connection has told only some of are told again", async (t) => {
  const redis = await ownRedis(t);
  const queue = openQueue(t, redis.url);
  const client = clientOf(t, redis);
  const shards = Array.from({ length: 1500 }, (_, i) => `w${String(i).padStart(6, "0")}-s0000`);
  const enqueued = queue.enqueue({ jobs: shards.map((shard) => ({ ...JOB, shard })) });
  for (const share of [1, 2]) {
    await t.expect.poll(async () => (await queue.counts()).waiting, WAIT).toBeGreaterThan(share * 400);
    await client.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes");
  }
  await enqueued;
  t.expect(await queue.counts()).toMatchObject({ waiting: shards.length });
});

test.concurrent("what was asked of a connection that swallows it is asked again on another", async (t) => {
  const redis = await ownRedis(t);
  const proxy = await proxyTo(t, redis.port);
  const name = `test-${randomUUID()}`;
  const queue = new BullQueue({ redisUrl: proxy.url, name });
  t.onTestFinished(() => queue.close());
  const log = pino({ level: "silent" });
  const leases = new BullLeases({ redisUrl: proxy.url, name, workerId: "w", lockDurationMs: 12_000, log });
  t.onTestFinished(() => leases.close());
  await queue.enqueue({ jobs: [JOB] });
  const [held] = (await leases.pull({ max: 1, wait: true })).jobs;
  proxy.swallow();
  const completed = leases.complete({ job: held! });
  await new Promise((resolve) => setTimeout(resolve, 500));
  proxy.pass();
  t.expect(await completed).toBe("completed");
});

test.concurrent("an address that leads from a replica to its primary again: writes wait for it, and reads follow", async (t) => {
  const primary = await ownRedis(t);
  const successor = await startReplicaOf(t, primary);
  const proxy = await proxyTo(t, primary.port);
  const { lines, events } = openWatch(t, proxy.url);
  const queue = openQueue(t, proxy.url);
  const reader = openQueue(t, proxy.url);
  await queue.enqueue({ jobs: [JOB] });
  await reader.counts();
  await t.expect.poll(() => events.length, WAIT).toBeGreaterThan(0);
  await swap(t, primary, successor);
  const written = queue.requeue({ jobs: [{ ...JOB, shard: "w000000-s0001" }] });
  await t.expect.poll(() => lines.length, WAIT).toBe(1);
  t.expect(lines[0]).toMatchObject({
    level: 40,
    msg: "Redis does not answer: work that needs it waits until it does",
    reason: `it is a read-only replica of 127.0.0.1:${successor.port}`,
  });
  proxy.target = successor.port;
  await written;
  // The old primary answers questions still, and would for ever; it has lost touch with the new one.
  await clientOf(t, primary).replicaof("127.0.0.1", "1");
  const client = clientOf(t, successor);
  const [key] = await client.keys("*:prioritized");
  await client.del(key!);
  await t.expect.poll(async () => (await reader.counts()).waiting, WAIT).toBe(0);
  await t.expect.poll(() => lines.length, WAIT).toBe(2);
  t.expect(lines[1]).toMatchObject({ level: 40, msg: "Redis answers again" });
  t.expect(lines[1]!["silentSeconds"]).toBeGreaterThanOrEqual(5);
});

test.concurrent("a Sentinel that asks for a password leads to the primary; what it refuses is said without the password", async (t) => {
  const primary = await ownRedis(t, { args: ["--requirepass", "server-SECRET"] });
  const config = ["requirepass watch-SECRET", "sentinel auth-pass mymaster server-SECRET"];
  const sentinel = await startSentinel({ primaryPort: primary.port, password: "watch-SECRET", config });
  t.onTestFinished(() => sentinel.stop());
  const address = (name: string, password: string): string =>
    `redis+sentinel://:server-SECRET@127.0.0.1:1,127.0.0.1:${sentinel.port}/${name}?sentinelPassword=${password}`;
  t.expect(await check(address("mymaster", "watch-SECRET"))).toEqual([]);
  const failures = await Promise.all(
    [address("mymaster", "wrong-SECRET"), address("other", "watch-SECRET")].map((url) =>
      check(url).then(
        () => "",
        (error: Error & { cure: string }) => error.message + error.cure,
      ),
    ),
  );
  t.expect(failures[0]).toContain("WRONGPASS");
  t.expect(failures[1]).toContain(`sentinel 127.0.0.1:${sentinel.port} because ERR No such master`);
  for (const failure of failures) t.expect(failure).not.toContain("SECRET");
});
