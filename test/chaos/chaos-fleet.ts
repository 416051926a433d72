/**
 * A fleet to be harmed: its own Redis with an append-only file, a store, a corpus, and worker processes.
 * Every test ends in `wholeRun`, which counts the ids with an independent reader, too.
 */
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import pl from "nodejs-polars";
import { expect, onTestFinished } from "vitest";
import { cli, type Finished, startCli, type Started } from "../fixtures/cli.ts";
import { makeCorpus, randomOf } from "../fixtures/made-corpus.ts";
import { startRedis, type TestRedis } from "../fixtures/redis-server.ts";
import { tempFolder } from "../fixtures/temp-folder.ts";

/** `npm run test:chaos` sets it higher; the short form is part of `npm test`. */
const ROUNDS = Number(process.env["CHAOS_ROUNDS"] ?? 1);
/** Printed by each test; the same seed gives the same corpus and the same choices. */
const SEED = Number(process.env["CHAOS_SEED"] ?? Date.now() % 1_000_000);
export const SEEDS = Array.from({ length: ROUNDS }, (_, round) => SEED + round);
export const LIMIT_MS = 300_000;
export const LOCK_SECONDS = 3;

export interface FleetParams {
  readonly documents: number;
  /** Longest document, in words. */
  readonly maxWords?: number;
  readonly seed: number;
  /** Another store than the test's own folder, with the flags and variables it needs. */
  readonly store?: Readonly<{ out: string; flags: readonly string[]; env: Readonly<Record<string, string>> }>;
  /** Lines put before the made ones. */
  readonly extraLines?: readonly string[];
}

export function expectGoodEnd(...ended: readonly Finished[]): void {
  for (const { code, stderr } of ended) expect(code, stderr).toBe(0);
}

export class ChaosFleet {
  readonly redis: TestRedis;
  readonly out: string;
  readonly corpus: string;
  readonly random: () => number;
  readonly #params: FleetParams;
  readonly #common: string[];
  readonly #workers = new Set<Started>();

  private constructor(redis: TestRedis, folder: string, params: FleetParams) {
    this.redis = redis;
    this.#params = params;
    this.out = params.store?.out ?? `file://${join(folder, "out")}`;
    this.corpus = join(folder, "corpus.jsonl");
    this.random = randomOf(params.seed);
    this.#common = ["--out", this.out, ...(params.store?.flags ?? []), "--log-level", "warn"];
  }

  static async start(params: FleetParams): Promise<ChaosFleet> {
    console.log(`CHAOS_SEED=${params.seed} replays this test`);
    const redis = await startRedis();
    const fleet = new ChaosFleet(redis, await tempFolder(), params);
    onTestFinished(async () => {
      for (const { child } of fleet.#workers) child.kill("SIGKILL");
      await redis.stop();
    });
    const made = makeCorpus({ documents: params.documents, seed: params.seed, maxWords: params.maxWords ?? 400 });
    await writeFile(fleet.corpus, [...(params.extraLines ?? []), made].join("\n"));
    return fleet;
  }

  get #queue(): string[] {
    return [...this.#common, "--redis", this.redis.url];
  }

  startProducer(): Started {
    return startCli(["enqueue", this.corpus, ...this.#queue, "--run", "r", "--heads", "dense,sparse"], this.#env);
  }

  async enqueue(): Promise<void> {
    const done = await this.startProducer().finished;
    expect(done.code, done.stderr).toBe(0);
  }

  /** A worker that ends when the queue is empty and every run is whole. */
  startWorker(options: Readonly<{ env?: Record<string, string> }> = {}): Started {
    const flags = ["--threads", "1", "--exit-when-done", "--lock-seconds", String(LOCK_SECONDS), "--tend-seconds", "1"];
    // Small batches: many moments to be killed at.
    const small = ["--max-batch-tokens", "2048"];
    const worker = startCli(["work", ...this.#queue, ...flags, ...small], { ...this.#env, ...options.env });
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

  /** How many result files there are. */
  async files(): Promise<number> {
    const { stdout } = await this.command("status", "--json");
    return (JSON.parse(stdout) as { files: number }).files;
  }

  /** Waits until at least so many result files are there. */
  async untilFiles(count: number): Promise<void> {
    while ((await this.files()) < count);
  }

  /** Verifies the run and counts its ids byte for byte against the corpus, less the ids given. */
  async expectWhole(rejected: readonly string[] = []): Promise<void> {
    const { stdout, stderr } = await this.command("verify", "--json");
    expect(JSON.parse(stdout), stderr).toMatchObject({ ok: true, sealed: true, missing: 0, duplicates: 0 });
    const lines = (await readFile(this.corpus, "utf8")).split("\n").filter((line) => line !== "");
    const wanted = lines.map((line) => (JSON.parse(line) as { id: string }).id).filter((id) => !rejected.includes(id));
    if (this.out.startsWith("file://")) {
      expect(this.#idsOfFiles()).toEqual(wanted.sort());
    } else expect(JSON.parse(stdout)).toMatchObject({ rows: wanted.length });
  }

  #idsOfFiles(): string[] {
    const folder = this.out.slice("file://".length);
    const table = pl.scanIPC(`${folder}/runs/r/data/*.arrow`).collectSync();
    const ids = table.getColumn("id").toArray() as string[];
    return ids.sort();
  }
}
