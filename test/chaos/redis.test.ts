/** What happens to the queue: it is killed, wiped, cut off or full. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Redis } from "ioredis";
import { expect, onTestFinished } from "vitest";
import { startRedis, type TestRedis } from "../fixtures/redis-server.ts";
import { startSentinel } from "../fixtures/sentinel.ts";
import { TcpProxy } from "../fixtures/tcp-proxy.ts";
import { type ChaosFleet, chaosTest, endWell, queueKey } from "./chaos-fleet.ts";

chaosTest("Redis is killed and comes back, three times", { documents: 2000 }, async (fleet) => {
  const workers = await fleet.startBusy();
  for (let kills = 0; kills < 3; kills++) {
    await sleep(1000 + fleet.random() * 1500);
    await fleet.redis.restart();
    fleet.injected++;
  }
  await endWell(...workers);
});

chaosTest(
  "FLUSHALL: the workers queue again what is missing, with no one's help",
  { documents: 2000 },
  async (fleet) => {
    const workers = await fleet.startBusy();
    await fleet.client().flushall();
    const wipedAtMs = Date.now();
    fleet.injected++;
    const ended = await endWell(...workers);
    const lines = ended.flatMap(({ stderr }) => stderr.split("\n"));
    const healed = lines.find((line) => line.includes("jobs were missing from the queue"));
    expect(healed).toBeDefined();
    const { time } = JSON.parse(healed!) as { time: number };
    fleet.recoveredMs.push(time - wipedAtMs);
  },
);

const LISTS = ["prioritized", "wait", "active", "delayed"];

chaosTest(
  "the queue's lists are deleted, or are no lists any more; its jobs stay",
  { documents: 2000 },
  async (fleet) => {
    const redis = fleet.client();
    const remove = (names: readonly string[]): Promise<number> => redis.del(names.map(queueKey));
    await fleet.enqueue();
    await remove(LISTS);
    await redis.set(queueKey("wait"), "damage");
    const resumed = await fleet.withQueue("resume", "--json");
    expect(resumed.code, resumed.stderr).toBe(0);
    expect(resumed.stderr).toContain("keys of the queue were damaged and have been removed");
    const { queued } = JSON.parse(resumed.stdout) as { queued: number };
    expect(await redis.zcard(queueKey("prioritized"))).toBe(queued);
    fleet.injected += 2;
    const workers = [fleet.startWorker(), fleet.startWorker()];
    await fleet.untilFiles(1);
    // Now without anyone's help, and with what BullMQ keeps beside the lists.
    await remove([...LISTS, "events", "meta", "pc"]);
    for (const name of ["active", "stalled", "marker"])
      await redis.multi().del(queueKey(name)).hset(queueKey(name), "damage", "1").exec();
    fleet.injected += 2;
    await endWell(...workers);
  },
);

chaosTest(
  "Redis dies or freezes, and the workers are told to go: they end without it",
  { documents: 2000 },
  async (fleet) => {
    const workers = await fleet.startBusy();
    const freezes = fleet.random() < 0.5;
    if (freezes) process.kill(fleet.redis.pid!, "SIGSTOP");
    else await fleet.redis.kill();
    fleet.injected++;
    for (const { child } of workers) child.kill("SIGTERM");
    const ended = await endWell(...workers);
    for (const { stderr } of ended) expect(stderr).toContain("Redis does not answer");
    if (freezes) process.kill(fleet.redis.pid!, "SIGCONT");
    await fleet.redis.start();
    await endWell(fleet.startWorker());
  },
);

chaosTest("FLUSHALL, and everyone reconciles at once", { documents: 2000 }, async (fleet) => {
  const workers = await fleet.startBusy();
  const redis = fleet.client();
  for (let wipes = 0; wipes < 3; wipes++) {
    // The key that says whose turn it is to reconcile is wiped, too: both workers begin at once, and two more.
    await redis.flushall();
    fleet.injected++;
    await endWell(fleet.withQueue("resume"), fleet.withQueue("resume"));
  }
  await endWell(...workers);
});

chaosTest("CLIENT KILL, over and over, during pulls and completions", { documents: 2000 }, async (fleet) => {
  const workers = await fleet.startBusy();
  const redis = fleet.client();
  const ended = endWell(...workers);
  const killing = { isOver: false };
  void ended.finally(() => (killing.isOver = true)).catch(() => {});
  for (let kills = 0; kills < 30 && !killing.isOver; kills++) {
    await redis.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes");
    fleet.injected++;
    await sleep(100 + fleet.random() * 500);
  }
  await ended;
});

chaosTest("Redis at its memory limit: workers wait until there is room", { documents: 2000 }, async (fleet) => {
  const workers = await fleet.startBusy();
  const redis = fleet.client();
  for (let times = 0; times < 3; times++) {
    await redis.config("SET", "maxmemory", "1mb");
    await sleep(1000 + fleet.random() * 1000);
    await redis.config("SET", "maxmemory", "0");
    fleet.injected++;
    await sleep(500);
  }
  await endWell(...workers);
});

chaosTest(
  "a full Redis: the producer says so, and the same command goes on later",
  { documents: 2500 },
  async (fleet) => {
    const redis = fleet.client();
    await redis.config("SET", "maxmemory", "1mb");
    const refused = await fleet.startProducer().finished;
    expect(refused.code).toBe(1);
    expect(refused.stderr).toContain("maxmemory");
    fleet.injected++;
    await redis.config("SET", "maxmemory", "0");
    await fleet.enqueue();
    await endWell(fleet.startWorker());
  },
);

chaosTest("Redis fails over: the old primary becomes a read-only replica", { documents: 2000 }, async (fleet) => {
  const successor = await startReplica(fleet);
  const proxy = await startProxy(fleet);
  const workers = await fleet.startBusy();
  await successor.client.replicaof("NO", "ONE");
  await fleet.client().replicaof("127.0.0.1", String(successor.port));
  fleet.injected++;
  // For a while the address leads to the old one, as a name does until its time to live has passed.
  await sleep(1000 + fleet.random() * 1000);
  proxy.target = successor.port;
  await endWell(...workers);
});

chaosTest("connections swallow packets without an end", { documents: 2000 }, async (fleet) => {
  const proxy = await startProxy(fleet);
  const workers = await fleet.startBusy();
  await sleep(fleet.random() * 1000);
  proxy.swallow();
  fleet.injected++;
  await sleep(1500);
  proxy.pass();
  await endWell(...workers);
});

chaosTest("Sentinel elects another primary", { documents: 2000 }, async (fleet) => {
  const successor = await startReplica(fleet);
  const sentinel = await startSentinel({ primaryPort: fleet.redis.port });
  onTestFinished(() => sentinel.stop());
  await expect.poll(() => sentinel.replicas(), { timeout: 30_000 }).toBe(1);
  // Nobody is at the first address.
  fleet.reachRedisBy(`redis+sentinel://127.0.0.1:1,127.0.0.1:${sentinel.port}/mymaster`);
  const workers = await fleet.startBusy();
  await fleet.redis.kill();
  fleet.injected++;
  await endWell(...workers);
  expect(await sentinel.primaryPort()).toBe(successor.port);
});

/** Another server that has all that the fleet's has. */
async function startReplica(fleet: ChaosFleet): Promise<{ port: number; client: Redis }> {
  const replica: TestRedis = await startRedis();
  onTestFinished(() => replica.stop());
  const client = fleet.client(replica);
  await client.replicaof("127.0.0.1", String(fleet.redis.port));
  await expect.poll(() => client.info("replication"), { timeout: 30_000 }).toContain("master_link_status:up");
  return { port: replica.port, client };
}

async function startProxy(fleet: ChaosFleet): Promise<TcpProxy> {
  const proxy = await TcpProxy.start(fleet.redis.port);
  onTestFinished(() => proxy.close());
  fleet.reachRedisBy(proxy.url);
  return proxy;
}
