/**
 * A fleet to be harmed: its own Redis with an append-only file, a store, a corpus, and worker processes.
 * Every test ends in `expectWhole`, which counts the ids with an independent reader, too.
 */
import { readdir, readFile, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import { Redis } from "ioredis";
import pl from "nodejs-polars";
import { expect, onTestFinished, test } from "vitest";
import { openStore } from "../../src/adapters/open-store.ts";
import { CONTRACT_VERSION } from "../../src/core/contracts.ts";
import { toJsonBytes } from "../../src/core/json.ts";
import { STORE_KEY } from "../../src/core/layout.ts";
import { cli, type Finished, startCli, type Started } from "../fixtures/cli.ts";
import { makeCorpus, randomOf } from "../fixtures/made-corpus.ts";
import { startRedis, type TestRedis } from "../fixtures/redis-server.ts";
import { tempFolder } from "../fixtures/temp-folder.ts";
import { countIds, type Figures, writeFigures } from "./figures.ts";

/** Set by `npm run test:chaos`; without it one round of a smaller corpus is part of `npm run test:more`. */
const FULL_ROUNDS = process.env["CHAOS_ROUNDS"];
const SHORT_SHARE = 0.4;
/** Printed by each test; the same seed gives the same corpus and the same choices. */
const SEED = Number(process.env["CHAOS_SEED"] ?? Date.now() % 1_000_000);
const SEEDS = Array.from({ length: Number(FULL_ROUNDS ?? 1) }, (_, round) => SEED + round);
const LIMIT_MS = 300_000;
export const LOCK_SECONDS = 3;
const UNSOUND = ["nonFinite", "badNorm", "badHash"] as const;
/** Identity that each store in a folder is given, so that the names in Redis are known. */
const STORE_ID = "0123456789abcdef01234567";
const QUEUE_KEY = `embedfleet:${STORE_ID}-default-mini`;

/** One of BullMQ's keys of the fleet's queue. */
export function queueKey(name: string): string {
  return `${QUEUE_KEY}:${name}`;
}

export interface FleetParams {
  readonly documents: number;
  /** Longest document, in words. */
  readonly maxWords?: number;
  readonly seed: number;
  /** Another store than the test's own folder, a place in it for each seed, with the variables it needs. */
  readonly store?: Readonly<{ out: string; env: Readonly<Record<string, string>> }>;
  /** Lines put before the made ones. */
  readonly extraLines?: readonly string[];
}

/** Harms a fleet, waits until its processes have ended, and returns the ids that must be rejects. */
type Harm = (fleet: ChaosFleet) => Promise<readonly string[] | void>;

/** One test a seed. Whatever was done to the fleet, the run must be whole in the end. */
export function chaosTest(name: string, params: Omit<FleetParams, "seed">, harm: Harm): void {
  const share = FULL_ROUNDS === undefined ? SHORT_SHARE : 1;
  test.each(SEEDS)(
    `${name} (CHAOS_SEED=%i)`,
    async (seed) => {
      const documents = Math.ceil(params.documents * share);
      const fleet = await ChaosFleet.start({ ...params, documents, seed });
      const rejected = await harm(fleet);
      const counted = await fleet.expectWhole(rejected ?? []);
      const { injected, recoveredMs } = fleet;
      await writeFigures({ fault: name, seed, injected, ...counted, recoveredMs, command: commandFor(name) });
    },
    LIMIT_MS,
  );
}

/** `-t` takes a regular expression: the name up to what means something else in one. */
function commandFor(name: string): string {
  return `npm run test:chaos -- -t "${/^[\w ',-]+/.exec(name)![0].trim()}"`;
}

/** Waits for the processes; each must end with code 0. */
export async function endWell(...processes: readonly (Started | Promise<Finished>)[]): Promise<Finished[]> {
  const ended = await Promise.all(processes.map((each) => ("finished" in each ? each.finished : each)));
  for (const { code, stderr } of ended) expect(code, stderr).toBe(0);
  return ended;
}

export class ChaosFleet {
  readonly redis: TestRedis;
  readonly out: string;
  readonly corpus: string;
  readonly random: () => number;
  /** How often the fault was injected, and what each recovery took that a test has measured. */
  injected = 0;
  readonly recoveredMs: number[] = [];
  readonly #params: FleetParams;
  readonly #common: string[];
  readonly #workers = new Set<Started>();
  #redisUrl: string;

  private constructor(redis: TestRedis, folder: string, params: FleetParams) {
    this.redis = redis;
    this.#redisUrl = redis.url;
    this.#params = params;
    this.out = params.store === undefined ? `file://${join(folder, "out")}` : `${params.store.out}/${params.seed}`;
    this.corpus = join(folder, "corpus.jsonl");
    this.random = randomOf(params.seed);
    this.#common = ["--out", this.out, "--log-level", "warn"];
  }

  get documents(): number {
    return this.#params.documents;
  }

  /** Where every command from now on finds Redis. */
  reachRedisBy(url: string): void {
    this.#redisUrl = url;
  }

  /** For every command from now on. */
  useStoreFlags(...flags: readonly string[]): void {
    this.#common.push(...flags);
  }

  static async start(params: FleetParams): Promise<ChaosFleet> {
    const redis = await startRedis();
    const fleet = new ChaosFleet(redis, await tempFolder(), params);
    onTestFinished(async () => {
      for (const { child } of fleet.#workers) child.kill("SIGKILL");
      await redis.stop();
    });
    const made = makeCorpus({ documents: params.documents, seed: params.seed, maxWords: params.maxWords ?? 400 });
    await writeFile(fleet.corpus, [...(params.extraLines ?? []), made].join("\n"));
    if (params.store === undefined) {
      const store = await openStore(fleet.out);
      await store.create({ key: STORE_KEY, body: toJsonBytes({ version: CONTRACT_VERSION, id: STORE_ID }) });
    }
    return fleet;
  }

  get #queue(): string[] {
    return [...this.#common, "--redis", this.#redisUrl];
  }

  startProducer(...flags: readonly string[]): Started {
    const args = ["enqueue", this.corpus, ...this.#queue, "--run", "r", "--heads", "dense", ...flags];
    return startCli(args, this.#env);
  }

  async enqueue(): Promise<void> {
    await endWell(this.startProducer());
  }

  /** Queues the corpus and starts workers; the first result is there on return. */
  async startBusy(workers = 2): Promise<Started[]> {
    await this.enqueue();
    const started = Array.from({ length: workers }, () => this.startWorker());
    await this.untilFiles(1);
    return started;
  }

  /** A worker that ends when the queue is empty and every run is whole. */
  startWorker(options: Readonly<{ env?: Record<string, string>; flags?: readonly string[] }> = {}): Started {
    const flags = [
      "--threads",
      "1",
      "--exit-when-done",
      "--lock-seconds",
      String(LOCK_SECONDS),
      "--reconcile-seconds",
      "1",
    ];
    // Small batches: many moments to be killed at.
    const small = ["--max-batch-tokens", "2048"];
    const args = ["work", ...this.#queue, ...flags, ...small, ...(options.flags ?? [])];
    const worker = startCli(args, { ...this.#env, ...options.env });
    this.#workers.add(worker);
    void worker.finished.then(() => this.#workers.delete(worker));
    return worker;
  }

  /** As a supervisor would: a worker that ends badly is started again, a few times. */
  async untilWorkerEndsWell(): Promise<Finished> {
    let ended = await this.startWorker().finished;
    for (let starts = 1; ended.code !== 0 && starts < 10; starts++) ended = await this.startWorker().finished;
    return ended;
  }

  command(name: string, ...args: readonly string[]): Promise<Finished> {
    const where = name === "verify" ? [this.out, "r", ...this.#common.slice(2)] : ["r", ...this.#common];
    return cli([name, ...where, ...args], this.#env);
  }

  withQueue(name: string, ...args: readonly string[]): Promise<Finished> {
    return cli([name, "r", ...this.#queue, ...args], this.#env);
  }

  get #env(): Record<string, string> {
    return { ...this.#params.store?.env };
  }

  /** Waits until at least so many result files are there, in a store of files. */
  async untilFiles(count: number): Promise<void> {
    const folder = join(this.out.slice("file://".length), "runs", "r", "data");
    const files = async (): Promise<number> => {
      const names = await readdir(folder).catch(() => []);
      return names.filter((name) => name.endsWith(".arrow")).length;
    };
    await expect.poll(files, { timeout: LIMIT_MS, interval: 20 }).toBeGreaterThanOrEqual(count);
  }

  /** A connection of the test's own. */
  client({ url }: Readonly<{ url: string }> = this.redis): Redis {
    const redis = new Redis(url, { maxRetriesPerRequest: null });
    redis.on("error", () => {});
    onTestFinished(() => redis.disconnect());
    return redis;
  }

  /** The jobs that a worker process has leased now. */
  async leasedBy(redis: Redis, pid: number): Promise<Set<string>> {
    const active = await redis.lrange(`${QUEUE_KEY}:active`, 0, -1);
    const holders = await Promise.all(active.map((job) => redis.hget(`${QUEUE_KEY}:${job}`, "pb")));
    return new Set(active.filter((_, i) => holders[i] === `${hostname()}-${pid}`));
  }

  /** Verifies the run and counts its ids byte for byte against the corpus, less the ids given. */
  async expectWhole(rejected: readonly string[] = []): Promise<Pick<Figures, "rows" | "lost" | "doubled" | "wrong">> {
    const { stdout, stderr } = await this.command("verify", "--json");
    const report = JSON.parse(stdout) as Record<"rows" | "missing" | "duplicates" | (typeof UNSOUND)[number], number>;
    expect(report, stderr).toMatchObject({ ok: true, sealed: true, missing: 0, duplicates: 0 });
    const unsound = UNSOUND.reduce((sum, name) => sum + report[name], 0);
    const lines = (await readFile(this.corpus, "utf8")).split("\n").filter((line) => line !== "");
    const wanted = lines.map((line) => (JSON.parse(line) as { id: string }).id).filter((id) => !rejected.includes(id));
    if (!this.out.startsWith("file://")) {
      expect(report.rows).toBe(wanted.length);
      return { rows: report.rows, lost: report.missing, doubled: report.duplicates, wrong: unsound };
    }
    const counted = countIds(wanted, this.#idsOfFiles());
    expect(counted).toEqual({ rows: wanted.length, lost: 0, doubled: 0, strange: 0 });
    const { rows, lost, doubled, strange } = counted;
    return { rows, lost, doubled, wrong: strange + unsound };
  }

  #idsOfFiles(): string[] {
    const folder = this.out.slice("file://".length);
    const table = pl.scanIPC(`${folder}/runs/r/data/*.arrow`).collectSync();
    return table.getColumn("id").toArray() as string[];
  }
}
