/**
 * An adversary in Redis: keys of the queue are deleted, spoiled, doubled or moved while a run is worked on. Every job
 * must be done or fail visibly; nothing may be stuck in silence, and nothing sealed with rows missing.
 */
import { randomUUID } from "node:crypto";
import fc from "fast-check";
import { Redis } from "ioredis";
import { pino } from "pino";
import { afterAll, expect, inject, test } from "vitest";
import { BullLeases } from "../../src/adapters/redis/bull-leases.ts";
import { BullQueue } from "../../src/adapters/redis/bull-queue.ts";
import { RedisTurn } from "../../src/adapters/redis/redis-turn.ts";
import { hasCode } from "../../src/core/errors.ts";
import { runKeys } from "../../src/core/layout.ts";
import { DEFAULT_PACKING } from "../../src/core/packing.ts";
import type { ObjectInfo } from "../../src/core/ports.ts";
import { markActive } from "../../src/run/active-runs.ts";
import { openRun } from "../../src/run/open-run.ts";
import { resumeRun } from "../../src/run/reconcile.ts";
import { readManifest } from "../../src/run/seal.ts";
import { Reconciler } from "../../src/run/reconciler.ts";
import { mayEnd } from "../../src/run/unfinished.ts";
import { produce } from "../../producers/plan-corpus.ts";
import { Loader } from "../../workers/loader.ts";
import { FleetWorker } from "../../workers/worker.ts";
import { madeCorpus } from "../bench/fleet.ts";
import { PacedDevice } from "../fixtures/paced-device.ts";
import { runOptions } from "../fixtures/run-options.ts";
import { ScriptedStore } from "../fixtures/scripted-store.ts";

const RUN = "r";
const ROWS = 81 * 6;
/** Each story takes about as long as a lease or two. */
const STORIES = Number(process.env["DAMAGED_STORIES"] ?? 8);
const SEED = process.env["DAMAGED_SEED"];
const LOCK_MS = 1000;
const STUCK_AFTER_MS = 40_000;

const redisUrl = inject("redisUrl");
const fleet = `test-${randomUUID()}`;
const redis = new Redis(redisUrl);
const log = pino({ level: "silent" });
const queue = new BullQueue({ redisUrl, name: fleet });
const leases = new BullLeases({ redisUrl, name: fleet, workerId: "w", lockDurationMs: LOCK_MS, log });
const turn = new RedisTurn({ redisUrl, key: `${fleet}-turn` });
const device = new PacedDevice({ batchMs: 1, tokenMs: 1e-5, pairMs: 0 });
const model = { id: "made", revision: "1", sha256: "a".repeat(64), dim: 4, maxTokens: 1024 };
const options = runOptions({ model, heads: ["dense"], maxTokens: 1024 });
afterAll(async () => {
  await Promise.all([queue.close(), leases.close(), turn.close()]);
  redis.disconnect();
});

function key(suffix: string): string {
  return `embedfleet:${fleet}:${suffix}`;
}

// --- What the adversary can do -------------------------------------------------------------------

type Damage = Readonly<{ what: string; do: () => Promise<unknown> }>;

const LISTS = ["wait", "active", "paused"];
const SETS = ["prioritized", "delayed", "failed", "completed", "waiting-children"];
const KEYS = [...LISTS, ...SETS, "stalled", "marker", "events", "meta", "pc", "id", "stalled-check"];
const FIELDS = ["data", "opts", "ats", "atm", "stc", "priority", "name"];

const keyName = fc.constantFrom(...KEYS);
const jobName = fc.nat(5).map((shard) => `${RUN}-w000000-s000${shard}`);

async function spoil(name: string): Promise<void> {
  await redis.del(key(name));
  await redis.hset(key(name), "spoilt", "1");
  if (name === "meta") await redis.multi().del(key(name)).set(key(name), "spoilt").exec();
}

async function double(name: string, job: string): Promise<void> {
  if (LISTS.includes(name)) await redis.rpush(key(name), job);
  else await redis.zadd(key(name), 1, job);
}

const damage: fc.Arbitrary<Damage> = fc.oneof(
  keyName.map((name) => ({ what: `delete ${name}`, do: () => redis.del(key(name)) })),
  keyName.map((name) => ({ what: `spoil ${name}`, do: () => spoil(name) })),
  jobName.map((job) => ({ what: `delete ${job}`, do: () => redis.del(key(job)) })),
  jobName.map((job) => ({ what: `spoil ${job}`, do: () => spoil(job) })),
  fc
    .tuple(jobName, fc.constantFrom(...FIELDS), fc.constantFrom("", "{", "{}", '{"v":1}', "null", "-1"))
    .map(([job, field, value]) => ({
      what: `${job}.${field} = ${value}`,
      do: () => redis.hset(key(job), field, value),
    })),
  jobName.map((job) => ({ what: `lock ${job} for ever`, do: () => redis.set(`${key(job)}:lock`, "nobody") })),
  jobName.map((job) => ({ what: `unlock ${job}`, do: () => redis.del(`${key(job)}:lock`) })),
  fc
    .tuple(fc.constantFrom(...LISTS, ...SETS), jobName)
    .map(([name, job]) => ({ what: `${job} also in ${name}`, do: () => double(name, job).catch(() => {}) })),
  fc.tuple(keyName, keyName).map(([from, to]) => ({
    what: `${from} becomes ${to}`,
    do: () => redis.rename(key(from), key(to)).catch(() => {}),
  })),
  fc.constant({ what: "a check for stalled jobs for ever", do: () => redis.set(key("stalled-check"), "1") }),
  fc.constant({ what: "delete all lists", do: () => redis.del([...LISTS, ...SETS].map(key)) }),
  fc.constant({ what: "wipe", do: wipe }),
);

async function wipe(): Promise<void> {
  const keys = await redis.keys(key("*"));
  if (keys.length > 0) await redis.del(keys);
}

// --- A run that it meets -------------------------------------------------------------------------

/** Hands the adversary its turns: one before each of the first looks for a result file. */
class HauntedStore extends ScriptedStore {
  readonly damages: Damage[] = [];

  override async stat(params: Readonly<{ key: string }>): Promise<ObjectInfo | null> {
    if (params.key.startsWith(runKeys(RUN).dataPrefix)) await this.damages.shift()?.do();
    return super.stat(params);
  }
}

async function plan(store: HauntedStore): Promise<void> {
  const { record } = await openRun(store, { run: RUN, inputs: ["made"], options, since: undefined });
  await markActive(store, { fleet, run: RUN });
  await produce({
    store,
    queue,
    record,
    maxRejects: null,
    ...madeCorpus(Array.from({ length: ROWS }, () => 100)),
  });
}

/** As `work --exit-when-done` does. @throws FleetError `run_incomplete`; an error when it goes on for too long */
async function work(store: HauntedStore): Promise<void> {
  const reconciler = new Reconciler({ store, queue, turn, fleet, keepStaging: true, intervalMs: 1000, log });
  reconciler.start();
  const worker = new FleetWorker({
    store,
    leases,
    embedder: device,
    sandbox: device,
    loader: new Loader({ store, model, precision: options.precision, heads: options.heads, vocabSize: 1000 }),
    packing: { ...DEFAULT_PACKING, maxBatchTokens: 1600 },
    maxHeldBytes: 1024 ** 3,
    log,
    onIdle: () => mayEnd({ store, fleet, seen: new Set([RUN]), queue, reconciler }),
  });
  let isStuck = false;
  const timer = setTimeout(() => {
    isStuck = true;
    void worker.stop();
  }, STUCK_AFTER_MS);
  await worker.run().finally(() => {
    clearTimeout(timer);
    return reconciler.close();
  });
  if (isStuck) throw new Error(`stuck in silence: ${await stateOfRedis()}`);
}

async function stateOfRedis(): Promise<string> {
  const keys = (await redis.keys(key("*"))).filter((name) => !name.endsWith(":events"));
  const dumps = keys.map(async (name) => {
    const type = await redis.type(name);
    const ttl = await redis.pttl(name);
    const value = await (type === "list"
      ? redis.lrange(name, 0, -1)
      : type === "zset"
        ? redis.zrange(name, 0, "-1", "WITHSCORES")
        : type === "hash"
          ? redis.hgetall(name)
          : type === "set"
            ? redis.smembers(name)
            : redis.get(name));
    return `${name} (${type}, ${ttl}) ${JSON.stringify(value)}`;
  });
  return (await Promise.all(dumps)).join("\n");
}

test("whatever is done to a queue's keys, every job is done or fails visibly", { timeout: 300_000 }, async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(damage, { minLength: 1, maxLength: 8 }), async (damages) => {
      await wipe();
      const store = new HauntedStore();
      await plan(store);
      store.damages.push(...damages);
      await work(store).catch(async (error: unknown) => {
        if (!hasCode(error, "run_incomplete")) throw error;
        expect(await readManifest(store, RUN)).toBeNull();
        expect(error.message).toMatch(/of its 6 shards have no result file yet; failed: w000000-s\d{4}: /);
        store.damages.length = 0;
        expect(await resumeRun({ store, queue, fleet, run: RUN })).toMatchObject({ planned: 6, lost: 0 });
        await work(store);
      });
      expect((await readManifest(store, RUN))?.totals).toMatchObject({ rows: ROWS, shards: 6 });
    }),
    { numRuns: STORIES, endOnFailure: true, reporter, ...(SEED !== undefined && { seed: Number(SEED) }) },
  );
});

/** With what was done in words, and not as functions. */
function reporter(details: fc.RunDetails<[Damage[]]>): void {
  if (!details.failed) return;
  const story = details.counterexample?.[0].map(({ what }) => what).join("; ");
  throw new Error(`after: ${story} (seed ${details.seed}, path ${details.counterexamplePath})`, {
    cause: details.errorInstance,
  });
}
