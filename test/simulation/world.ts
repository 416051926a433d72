/**
 * One seed: producers, workers and tenders of one run, stepped in a random order, killed and restarted,
 * with a store that fails, leases that lapse and a Redis that is wiped; then calm, in which the fleet has
 * to finish by itself. Everything that decides about rows is the shipped code.
 */
import { pino } from "pino";
import { produce } from "../../producers/plan-corpus.ts";
import type { SourceItem } from "../../src/core/documents.ts";
import { hasCode, messageOf } from "../../src/core/errors.ts";
import { runKeys } from "../../src/core/layout.ts";
import type { WindowLimits } from "../../src/core/planning.ts";
import type { Encoded, HeldTurn, Tokenizer } from "../../src/core/ports.ts";
import { markActive } from "../../src/run/active-runs.ts";
import { openRun } from "../../src/run/open-run.ts";
import { Reconciler } from "../../src/run/reconciler.ts";
import { verifyRun } from "../../src/run/verify.ts";
import type { HeldShard } from "../../workers/held-shard.ts";
import { Loader } from "../../workers/loader.ts";
import { randomOf } from "../fixtures/made-corpus.ts";
import { runOptions } from "../fixtures/run-options.ts";
import { Actor, Scheduler } from "./scheduler.ts";
import { type Sabotage, SimRedis, SimStore } from "./sim-ports.ts";

const DIM = 2;
const RUN = "r";
const FLEET = "f";
const DOCUMENTS = 4;
/** So many that two documents make a shard, which is a window's only one. */
const TOKENS = 4000;
const SHARDS = 2;
const limitsOf = (): WindowLimits => ({ tokens: 2 * TOKENS, rows: 9, documents: 9, textChars: 999 });
const KILL_SHARE = 0.02;
const FAULT_SHARE = 0.03;
const MAX_RESTARTS = 4;
const silent = pino({ level: "silent" });

const options = runOptions({
  model: { id: "sim", revision: "1", sha256: "0".repeat(64), dim: DIM, maxTokens: 8192 },
  maxTokens: 8192,
});

const encoded: Encoded = { ids: new Int32Array(TOKENS).fill(5), starts: new Uint32Array(TOKENS) };
const tokenizer: Tokenizer = {
  vocabSize: 10,
  prefixIds: [0],
  suffixIds: [2],
  encode: async ({ texts }) => texts.map(() => encoded),
};

async function* corpus(): AsyncGenerator<SourceItem> {
  for (let line = 1; line <= DOCUMENTS; line++)
    yield { kind: "document", document: { id: `d${line}`, text: `text ${line}`, origin: { file: "c", line } } };
}

export interface Outcome {
  /** Null when every promise was kept; else which one was broken. */
  readonly broken: string | null;
  readonly steps: number;
}

export async function simulate(seed: number, sabotage: Sabotage = {}): Promise<Outcome> {
  const world = new World(seed, sabotage);
  return { broken: await world.play(), steps: world.scheduler.steps };
}

class World {
  readonly scheduler: Scheduler;
  readonly #store: SimStore;
  readonly #redis: SimRedis;
  readonly #sabotage: Sabotage;
  readonly #roles = new Map<Actor, (actor: Actor) => Promise<void>>();
  #restarts = 0;
  #isPlanned = false;
  #failure: unknown = null;
  #sealedEarly: string | null = null;

  constructor(seed: number, sabotage: Sabotage) {
    this.scheduler = new Scheduler(randomOf(seed));
    this.#sabotage = sabotage;
    this.#redis = new SimRedis(this.scheduler);
    this.#store = new SimStore(this.scheduler, sabotage, (key) => this.#checkSeal(key));
  }

  async play(): Promise<string | null> {
    await this.#storm();
    await this.#calm();
    return this.#verdict();
  }

  async #storm(): Promise<void> {
    const { scheduler } = this;
    scheduler.killShare = KILL_SHARE;
    this.#store.faultShare = FAULT_SHARE;
    for (const role of [this.#produce, this.#work, this.#reconcile, this.#harm]) this.#start(role);
    // A second one of each in some stories only: short ones are quick, and there are more of them.
    for (const role of [this.#produce, this.#work, this.#reconcile]) if (scheduler.chance(0.4)) this.#start(role);
    await scheduler.run((dead) => {
      const role = this.#roles.get(dead)!;
      if (this.#restarts++ < MAX_RESTARTS) this.#start(role);
    });
  }

  /** No more faults: leases of the dead lapse, a producer that failed is run again, and the fleet goes on. */
  async #calm(): Promise<void> {
    this.scheduler.killShare = 0;
    this.#store.faultShare = 0;
    // A command that ended well is not repeated: what is lost after it, the fleet has to find by itself.
    const rounds = [...(this.#isPlanned ? [] : [this.#produce]), this.#reconcile, this.#work, this.#reconcile];
    for (const role of rounds) {
      this.#redis.expireAll();
      this.#start(role);
      await this.scheduler.run(() => {});
    }
  }

  #start(role: (actor: Actor) => Promise<void>): void {
    const actor = new Actor();
    this.#roles.set(actor, role);
    role.call(this, actor).catch((error: unknown) => (this.#failure ??= error));
  }

  /** The same command until it ends well, as a user or a cron job would. */
  async #produce(actor: Actor): Promise<void> {
    const store = this.#store.seenBy(actor);
    const queue = this.#redis.queueFor(actor);
    for (let tries = 0; tries < 3; tries++) {
      try {
        const { record } = await openRun(store, { run: RUN, inputs: ["c"], options });
        await markActive(store, { fleet: FLEET, run: RUN });
        await produce({ store, queue, tokenizer, record, items: corpus(), maxRejects: null, limitsOf });
        this.#isPlanned = true;
        return;
      } catch (error) {
        if (!hasCode(error, "store_unavailable")) throw error;
      }
    }
  }

  async #work(actor: Actor): Promise<void> {
    const store = this.#store.seenBy(actor);
    const loader = new Loader({ store, model: options.model, precision: "fp32", heads: ["dense"], vocabSize: 10 });
    for (let pulls = 0; pulls < 3 * SHARDS; pulls++) {
      const pulled = await this.#redis.pull(actor);
      if (pulled === null) continue;
      const { job, lease } = pulled;
      try {
        if (this.#sabotage.completesFirst === true) await this.#redis.settle(actor, job.id, lease, "completed");
        const loaded = await loader.load(job);
        if (loaded.kind === "held") {
          this.#embed(loaded.shard);
          await loaded.shard.commit(store);
        }
        await this.#redis.settle(actor, job.id, lease, "completed");
      } catch (error) {
        // A run that was sealed meanwhile has no staged rows any more, and needs none.
        if (!hasCode(error, "store_unavailable") && !hasCode(error, "object_missing")) throw error;
        await this.#redis.settle(actor, job.id, lease, "waiting");
      }
    }
  }

  /** Attempts differ, as they do between devices: in what they compute, and in which rows they reject. */
  #embed(shard: HeldShard): void {
    const rows = shard.rows.ids.length;
    const angle = this.scheduler.pick([0.1, 0.2, 0.3, 0.4])!;
    for (let row = 0; row < rows; row++) {
      shard.buffers.dense!.set([Math.cos(angle), Math.sin(angle)], row * DIM);
      shard.buffers.broken[row] = this.scheduler.chance(0.3) ? 1 : 0;
    }
    shard.finish(rows, { paddedTokens: TOKENS * rows, batches: 1, deviceMs: 1, idleMs: 0, idle: {} });
  }

  async #reconcile(actor: Actor): Promise<void> {
    if (this.#sabotage.neverTends === true || this.#sabotage.completesFirst === true) return this.#sealOnly(actor);
    await this.#tenderOf(actor, this.#redis.queueFor(actor)).reconcile();
  }

  /** A reconciler whose queue never takes a job. */
  async #sealOnly(actor: Actor): Promise<void> {
    const queue = { ...this.#redis.queueFor(actor), unknown: async () => [] };
    await this.#tenderOf(actor, queue).reconcile();
  }

  #tenderOf(actor: Actor, queue: ReturnType<SimRedis["queueFor"]>): Reconciler {
    const store = this.#store.seenBy(actor, true);
    // Nobody is kept from sealing: a race has to end well without turns.
    const hold = async (): Promise<HeldTurn> => ({ release: async () => {} });
    const turn = { take: async () => true, hold, close: async () => {} };
    return new Reconciler({ store, queue, turn, fleet: FLEET, keepStaging: false, intervalMs: 1000, log: silent });
  }

  async #harm(actor: Actor): Promise<void> {
    for (let steps = 0; steps < 30; steps++) {
      await this.scheduler.step(actor);
      if (this.scheduler.chance(0.1)) this.#redis.expireOne();
      if (this.scheduler.chance(0.03)) this.#redis.wipe();
    }
  }

  /** Called when an object appears: a manifest may only follow all the files of a closed plan. */
  #checkSeal(key: string): void {
    const keys = runKeys(RUN);
    if (key !== keys.manifest) return;
    const files = [...this.#store.objects.keys()].filter((name) => name.startsWith(keys.dataPrefix)).length;
    if (!this.#store.objects.has(keys.closed) || files !== SHARDS) this.#sealedEarly = `sealed with ${files} files`;
  }

  async #verdict(): Promise<string | null> {
    if (this.#failure !== null) return `a fault: ${messageOf(this.#failure)}`;
    if (this.#store.violation !== null) return this.#store.violation;
    if (this.#sealedEarly !== null) return this.#sealedEarly;
    if (!this.#store.objects.has(runKeys(RUN).manifest)) return "never sealed";
    let report: Awaited<ReturnType<typeof verifyRun>> | null = null;
    void verifyRun({ store: this.#store.seenBy(new Actor()), run: RUN }).then(
      (found) => (report = found),
      (error: unknown) => (this.#failure = error),
    );
    await this.scheduler.run(() => {});
    if (report === null) return `cannot be verified: ${messageOf(this.#failure)}`;
    const { ok, rows, rejects, findings } = report as Awaited<ReturnType<typeof verifyRun>>;
    if (ok && rows + rejects === DOCUMENTS) return null;
    return [`${rows + rejects} of ${DOCUMENTS} rows`, ...findings].join("; ");
  }
}
