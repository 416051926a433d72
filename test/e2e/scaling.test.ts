/** A fleet of separate processes, each in a folder of its own, that a scaler grows, empties and grows again. */
import { randomUUID } from "node:crypto";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, inject, onTestFinished, test } from "vitest";
import { S3Store } from "../../src/adapters/s3/s3-store.ts";
import { readChain, readEffective } from "../../src/run/chain.ts";
import type { FleetSnapshot, QueueView } from "../../src/control/snapshot.ts";
import { cli, startCli, type Started } from "../fixtures/cli.ts";
import { startControl, type StartedControl } from "../fixtures/control.ts";
import { describeS3 } from "../fixtures/describe-s3.ts";
import { makeCorpus } from "../fixtures/made-corpus.ts";

const RUNS = ["left", "right"] as const;
/** Each a single row: no document is longer than a row. */
const DOCUMENTS = 800;
/** Waiting and active tokens that are worth one more worker. */
const TOKENS_PER_WORKER = 20_000;
const POLL_MS = 250;
/** Little, so that no worker takes what is there from the others. */
const HELD_BYTES = String(64 * 1024);

/** As an autoscaler does it: reads the backlog, and starts a worker or sends it SIGTERM. */
class Scaler {
  /** How many workers there were, change by change. */
  readonly counts: number[] = [];
  readonly #control: StartedControl;
  readonly #start: () => Promise<Started>;
  readonly #workers: Started[] = [];

  constructor(control: StartedControl, start: () => Promise<Started>) {
    this.#control = control;
    this.#start = start;
  }

  /** Follows the backlog with at most `limit` workers until control sees what is waited for. */
  async follow(limit: number, isOver: (seen: FleetSnapshot) => boolean): Promise<FleetSnapshot> {
    for (;;) {
      const { tokens } = await this.#ask<{ tokens: number }>("/api/backlog");
      await this.#scaleTo(Math.min(limit, Math.ceil(tokens / TOKENS_PER_WORKER)));
      const seen = await this.#ask<FleetSnapshot>("/api/fleet");
      if (isOver(seen)) return seen;
      await sleep(POLL_MS);
    }
  }

  async #scaleTo(count: number): Promise<void> {
    if (count !== this.#workers.length) this.counts.push(count);
    while (this.#workers.length < count) this.#workers.push(await this.#start());
    const stopped = this.#workers.splice(count);
    for (const { child } of stopped) child.kill("SIGTERM");
    for (const { code, stderr } of await Promise.all(stopped.map(({ finished }) => finished)))
      expect(code, stderr).toBe(0);
    for (const { child } of this.#workers) expect(child.exitCode).toBeNull();
  }

  async #ask<Answer>(path: string): Promise<Answer> {
    return (await (await this.#control.call(path)).json()) as Answer;
  }
}

/** Of the only queue. */
function queueOf({ queues }: FleetSnapshot): QueueView | undefined {
  return queues[0];
}

function rowsOf({ runs }: FleetSnapshot): number {
  return runs.reduce((sum, { rows }) => sum + rows, 0);
}

describeS3("separate processes on one S3 store", (s3) => {
  const { endpoint, region, bucket, credentials } = s3;
  const env = { AWS_ACCESS_KEY_ID: credentials.accessKeyId, AWS_SECRET_ACCESS_KEY: credentials.secretAccessKey };

  test("two producers and 1, 4, 0, then 2 workers: both runs are sealed, and every id is there once", async () => {
    const root = await mkdtemp(join(tmpdir(), "embedfleet-scaling-"));
    const prefix = `scaling-${randomUUID()}`;
    const out = `s3://${bucket}/${prefix}`;
    const store = ["--s3-endpoint", endpoint, "--s3-region", region, "--log-level", "warn"];
    const common = ["--out", out, "--redis", inject("redisUrl"), "--fleet", randomUUID()];
    const started: Started[] = [];
    const startIn = async (name: string, args: readonly string[]): Promise<Started> => {
      const folder = join(root, name);
      await mkdir(folder, { recursive: true });
      const process = startCli(args, { ...env, EMBEDFLEET_CACHE: join(folder, "cache") }, undefined, folder);
      started.push(process);
      return process;
    };
    const control = await startControl([...common, ...store.slice(0, -2)], env);
    onTestFinished(async () => {
      for (const { child } of started) child.kill("SIGKILL");
      await Promise.all(started.map(({ finished }) => finished));
      await control.stop();
      await rm(root, { recursive: true, force: true });
    });

    const producers = RUNS.map(async (run, seed) => {
      await mkdir(join(root, run));
      await writeFile(join(root, run, "corpus.jsonl"), makeCorpus({ documents: DOCUMENTS, seed, maxWords: 600 }));
      const plan = ["corpus.jsonl", "--run", run, "--heads", "dense"];
      return (await startIn(run, ["enqueue", ...plan, ...common, ...store])).finished;
    });
    const scaler = new Scaler(control, () =>
      startIn(`worker-${started.length}`, [
        "work",
        ...common,
        ...store,
        "--threads",
        "1",
        "--max-held-bytes",
        HELD_BYTES,
      ]),
    );

    await scaler.follow(1, (seen) => rowsOf(seen) > 0);
    await scaler.follow(4, (seen) => queueOf(seen)?.workers === 4);
    const emptied = await scaler.follow(0, (seen) => queueOf(seen)?.workers === 0);
    expect(queueOf(emptied)).toMatchObject({ counts: { active: 0, failed: 0 } });
    expect(queueOf(emptied)!.counts.waiting).toBeGreaterThan(0);
    expect(rowsOf(emptied)).toBeLessThan(RUNS.length * DOCUMENTS);
    await scaler.follow(2, ({ runs }) => runs.length === 2 && runs.every(({ state }) => state === "sealed"));
    expect(scaler.counts.slice(0, 4)).toEqual([1, 4, 0, 2]);
    for (const { code, stderr } of await Promise.all(producers)) expect(code, stderr).toBe(0);

    const files = new S3Store({ bucket, prefix, options: { endpoint, region, credentials } });
    for (const run of RUNS) {
      const { stdout } = await cli(["verify", out, run, "--json", ...store], env);
      expect(JSON.parse(stdout)).toMatchObject({ ok: true, sealed: true, rows: DOCUMENTS, missing: 0, duplicates: 0 });
      const ids: string[] = [];
      for await (const { rows } of readEffective(files, await readChain(files, run))) ids.push(...rows.ids);
      expect(ids.toSorted()).toEqual(Array.from({ length: DOCUMENTS }, (_, i) => `d${i}`).toSorted());
    }
  }, 300_000);
});
