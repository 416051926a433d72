/**
 * One seed: producers, workers and reconcilers of one run, stepped in a random order, killed and restarted, with a
 * store and a Redis that fail, devices that fail, leases that lapse and a Redis that is wiped; then calm, in which the
 * fleet has to finish by itself. Everything but ports and devices is the shipped code.
 */
import { pino } from "pino";
import { produce } from "../../producers/plan-corpus.ts";
import type { SourceItem } from "../../src/core/documents.ts";
import { hasCode, isPassing, messageOf } from "../../src/core/errors.ts";
import { runKeys } from "../../src/core/layout.ts";
import type { WindowLimits } from "../../src/core/planning.ts";
import type { HeldTurn, JobQueue, Turn } from "../../src/core/ports.ts";
import { markActive } from "../../src/run/active-runs.ts";
import { openRun } from "../../src/run/open-run.ts";
import { Reconciler } from "../../src/run/reconciler.ts";
import { verifyRun } from "../../src/run/verify.ts";
import { randomOf } from "../fixtures/made-corpus.ts";
import { runOptions } from "../fixtures/run-options.ts";
import { Actor, Scheduler } from "./scheduler.ts";
import type { Sabotage } from "./sabotage.ts";
import { SimRedis } from "./sim-redis.ts";
import { SimStore } from "./sim-store.ts";
import { simTokenizer, TOKENS } from "./sim-tokenizer.ts";
import { SIM_MODEL, workInSimulation } from "./sim-worker.ts";

const RUN = "r";
const FLEET = "f";
const DOCUMENTS = 4;
const SHARDS = 2;
const limitsOf = (): WindowLimits => ({ tokens: 2 * TOKENS, rows: 9, documents: 9, textChars: 999 });
const KILL_SHARE = 0.02;
const FAULT_SHARE = 0.03;
const MAX_RESTARTS = 4;
/**
 * Looks that a worker takes at an empty queue before it ends. In the storm there have to be enough for the first jobs to
 * come; in the calm all that was put off is due by then.
 */
const MAX_IDLE_LOOKS = { storm: 16, calm: 6 };
/** Far more than any story takes: a job that goes round for ever never ends by itself. */
const MAX_STEPS = 20_000;
const silent = pino({ level: "silent" });

const options = runOptions({ model: SIM_MODEL, maxTokens: 8192 });

async function* corpus(): AsyncGenerator<SourceItem> {
  for (let line = 1; line <= DOCUMENTS; line++)
    yield { kind: "document", document: { id: `d${line}`, text: `text ${line}`, origin: { file: "c", line } } };
}

const everyonesTurn: Turn = {
  take: async () => true,
  hold: async (): Promise<HeldTurn> => ({ release: async () => {} }),
  close: async () => {},
};

export interface Outcome {
  /** Null when every promise was kept; else which one was broken. */
  readonly broken: string | null;
  readonly steps: number;
  /** Why jobs were given up, one each. */
  readonly failed: readonly string[];
}

export async function simulate(seed: number, sabotage: Sabotage = {}): Promise<Outcome> {
  const world = new World(seed, sabotage);
  return { broken: await world.play(), steps: world.scheduler.steps, failed: world.failed };
}

class World {
  readonly scheduler: Scheduler;
  readonly #store: SimStore;
  readonly #redis: SimRedis;
  readonly #sabotage: Sabotage;
  readonly #roles = new Map<Actor, (actor: Actor) => Promise<void>>();
  /** Those who work, by what they are. */
  readonly #busy = new Set<Actor>();
  #isCalm = false;
  #restarts = 0;
  #isPlanned = false;
  #failure: unknown = null;
  #sealedEarly: string | null = null;

  constructor(seed: number, sabotage: Sabotage) {
    this.scheduler = new Scheduler(randomOf(seed));
    this.#sabotage = sabotage;
    this.#redis = new SimRedis(this.scheduler, sabotage);
    this.#store = new SimStore(this.scheduler, sabotage, (key) => this.#checkSeal(key));
  }

  get failed(): string[] {
    return this.#redis.known.failures(RUN, SHARDS).map(({ reason }) => reason);
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
    this.#redis.faultShare = FAULT_SHARE;
    for (const role of [this.#produce, this.#work, this.#reconcile, this.#harm]) this.#start(role);
    // A second one of each in some stories only: short ones are quick, and there are more of them.
    for (const role of [this.#produce, this.#work, this.#reconcile]) if (scheduler.chance(0.4)) this.#start(role);
    await this.#run((dead) => this.#restart(this.#roles.get(dead)!));
  }

  #restart(role: (actor: Actor) => Promise<void>): void {
    if (this.#restarts++ < MAX_RESTARTS) this.#start(role);
  }

  /** Until everyone has ended or was killed. */
  async #run(onKilled: (dead: Actor) => void = () => {}): Promise<void> {
    await this.scheduler.run((dead) => {
      this.#busy.delete(dead);
      onKilled(dead);
    }, MAX_STEPS);
    // Nobody has a step to take any more: who has not ended waits for what never comes.
    if (this.#busy.size > 0) this.#failure ??= new Error(`${this.#busy.size} never ended`);
    this.#busy.clear();
  }

  /** No more faults: leases of the dead lapse, a producer that failed is run again, and the fleet goes on. */
  async #calm(): Promise<void> {
    this.scheduler.killShare = 0;
    this.#store.faultShare = 0;
    this.#redis.faultShare = 0;
    this.#isCalm = true;
    // A command that ended well is not repeated: what is lost after it, the fleet has to find by itself.
    const rounds = [...(this.#isPlanned ? [] : [this.#produce]), this.#reconcile, this.#work, this.#reconcile];
    for (const role of rounds) {
      this.#redis.expireAll();
      this.#start(role);
      await this.#run();
    }
  }

  #start(role: (actor: Actor) => Promise<void>): void {
    const actor = new Actor();
    this.#roles.set(actor, role);
    this.#busy.add(actor);
    role
      .call(this, actor)
      .catch((error: unknown) => (this.#failure ??= error))
      .finally(() => this.#busy.delete(actor));
  }

  /** The same command until it ends well, as a user or a cron job would. */
  async #produce(actor: Actor): Promise<void> {
    const store = this.#store.seenBy(actor);
    const queue = this.#redis.queueFor(actor);
    for (let tries = 0; tries < 3; tries++) {
      try {
        const { record } = await openRun(store, { run: RUN, inputs: ["c"], options, settlesLater: true });
        await markActive(store, { fleet: FLEET, run: RUN });
        await produce({ store, queue, tokenizer: simTokenizer, record, items: corpus(), maxRejects: null, limitsOf });
        this.#isPlanned = true;
        return;
      } catch (error) {
        if (!isPassing(error)) throw error;
      }
    }
  }

  /** As a supervisor does, it starts a worker again that has ended with a fault of its device. */
  async #work(actor: Actor): Promise<void> {
    let looks = 0;
    const maxLooks = this.#isCalm ? MAX_IDLE_LOOKS.calm : MAX_IDLE_LOOKS.storm;
    try {
      await workInSimulation({
        scheduler: this.scheduler,
        actor,
        store: this.#store.seenBy(actor),
        redis: this.#redis,
        sabotage: this.#sabotage,
        faultShare: () => this.#store.faultShare,
        mayEnd: () => ++looks > maxLooks,
      });
    } catch (error) {
      if (!hasCode(error, "inference_failed")) throw error;
      this.#restart(this.#work);
    }
  }

  async #reconcile(actor: Actor): Promise<void> {
    if (this.#sabotage.neverTends === true || this.#sabotage.completesFirst === true) return this.#sealOnly(actor);
    await this.#reconcilerOf(actor, this.#redis.queueFor(actor)).reconcile();
  }

  /** A reconciler whose queue never takes a job. */
  async #sealOnly(actor: Actor): Promise<void> {
    const queue = { ...this.#redis.queueFor(actor), unknown: async () => [] };
    await this.#reconcilerOf(actor, queue).reconcile();
  }

  #reconcilerOf(actor: Actor, queue: JobQueue): Reconciler {
    const store = this.#store.seenBy(actor, true);
    // In half of the stories nobody is kept from sealing: a race has to end well without turns.
    const turn = this.#isCalm || this.scheduler.chance(0.5) ? this.#redis.turnFor(actor) : everyonesTurn;
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
    if (!this.#store.objects.has(runKeys(RUN).manifest)) return ["never sealed", ...this.failed].join("; ");
    let report: Awaited<ReturnType<typeof verifyRun>> | null = null;
    void verifyRun({ store: this.#store.seenBy(new Actor()), run: RUN }).then(
      (found) => (report = found),
      (error: unknown) => (this.#failure = error),
    );
    await this.#run();
    if (report === null) return `cannot be verified: ${messageOf(this.#failure)}`;
    const { ok, rows, rejects, findings } = report as Awaited<ReturnType<typeof verifyRun>>;
    if (ok && rows + rejects === DOCUMENTS) return null;
    return [`${rows + rejects} of ${DOCUMENTS} rows`, ...findings].join("; ");
  }
}
