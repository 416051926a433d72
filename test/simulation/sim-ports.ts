/** The ports of the fleet in memory, under a scheduler: shared state, seen by each actor through its own handle. */
import type { ClosedRecord, JobPayload, WindowPlan } from "../../src/core/contracts.ts";
import { FleetError } from "../../src/core/errors.ts";
import { jobId, windowId } from "../../src/core/layout.ts";
import type {
  CreateOutcome,
  JobQueue,
  LeasedJob,
  ObjectInfo,
  ObjectStore,
  QueueCounts,
  ReplaceOutcome,
  VersionedBody,
} from "../../src/core/ports.ts";
import type { Actor, Scheduler } from "./scheduler.ts";

/** What is broken on purpose, to see that the simulation sees it. */
export interface Sabotage {
  /** `create` replaces what is there. */
  readonly overwrites?: boolean;
  /** `create` says that it stored an object, and sometimes did not. */
  readonly forgets?: boolean;
  /** Attempts of a shard share one name for their rejects. */
  readonly sharesRejects?: boolean;
  /** Workers complete a job before its file is committed, and nothing reconciles the queue. */
  readonly completesFirst?: boolean;
  /** Nothing looks for lost jobs. */
  readonly neverTends?: boolean;
  /** The last window's plan is gone as soon as the plan is closed. */
  readonly losesAPlan?: boolean;
  /** Who reconciles takes the windows that it finds for all that were planned, whatever the closed plan says. */
  readonly sealsFromListing?: boolean;
}

export class SimStore {
  readonly objects = new Map<string, Uint8Array>();
  /** Why the promise "an object never changes" was broken; null while it holds. */
  violation: string | null = null;
  /** The chance that a call fails, before or after it took effect. */
  faultShare = 0;
  readonly #scheduler: Scheduler;
  readonly #sabotage: Sabotage;
  readonly #onCreate: (key: string) => void;
  readonly #writes = new Map<string, number>();
  #writeCount = 0;

  constructor(scheduler: Scheduler, sabotage: Sabotage, onCreate: (key: string) => void) {
    this.#scheduler = scheduler;
    this.#sabotage = sabotage;
    this.#onCreate = onCreate;
  }

  /** @param isSealer Whether the actor is one that may believe a listing, when that is sabotaged. */
  seenBy(actor: Actor, isSealer = false): ObjectStore {
    const believes = isSealer && this.#sabotage.sealsFromListing === true;
    const call = <T>(key: string, act: () => T): Promise<T> => this.#call(actor, key, act);
    const list = (prefix: string): Promise<ObjectInfo[]> =>
      call(prefix, () => {
        const found = this.#list(prefix);
        // A fault that no caller is told of: some of what is there is left out.
        return this.#scheduler.chance(this.faultShare) ? found.filter(() => this.#scheduler.chance(0.5)) : found;
      });
    return {
      url: "memory:///",
      create: ({ key, body }) => call(key, () => this.#create(this.#nameOf(key), body)),
      replace: ({ key, body, ifVersion }) => call(key, () => this.#replace(key, body, ifVersion)),
      readVersion: ({ key }) => call(key, () => this.#readVersion(key)),
      read: ({ key, range }) =>
        call(key, () => {
          const body = this.#read(this.#nameOf(key), range);
          return believes && key.endsWith("/plan/closed.json") ? this.#closedAsListed(key) : body;
        }),
      stat: ({ key }) =>
        call(key, () => {
          const body = this.objects.get(key);
          return body === undefined ? null : this.#info(key, body);
        }),
      async *list({ prefix }) {
        yield* await list(prefix);
      },
      remove: ({ key }) => call(key, () => void this.objects.delete(key)),
      close: async () => {},
    };
  }

  async #call<T>(actor: Actor, key: string, act: () => T): Promise<T> {
    await this.#scheduler.step(actor);
    const fails = this.#scheduler.chance(this.faultShare);
    if (fails && this.#scheduler.chance(0.5)) throw unavailable(key);
    const result = act();
    await this.#scheduler.step(actor);
    if (fails) throw unavailable(key);
    return result;
  }

  #nameOf(key: string): string {
    return this.#sabotage.sharesRejects === true ? key.replace(/\.[0-9a-f]{8}\.jsonl$/, ".jsonl") : key;
  }

  #create(key: string, body: Uint8Array): CreateOutcome {
    const isThere = this.objects.has(key);
    if (isThere && this.#sabotage.overwrites !== true) return "exists";
    if (isThere && Buffer.compare(this.objects.get(key)!, body) !== 0) this.violation = `${key} was changed`;
    if (this.#sabotage.forgets !== true || !this.#scheduler.chance(0.1)) this.#set(key, body);
    if (this.#sabotage.losesAPlan === true && key.endsWith("/plan/closed.json"))
      this.objects.delete(key.replace("closed", windowId(1)));
    this.#onCreate(key);
    return "created";
  }

  #replace(key: string, body: Uint8Array, ifVersion: string | null | undefined): ReplaceOutcome {
    if (ifVersion !== undefined && (this.#readVersion(key)?.version ?? null) !== ifVersion) return "changed";
    this.#set(key, body);
    return "replaced";
  }

  #readVersion(key: string): VersionedBody | null {
    const body = this.objects.get(key);
    return body === undefined ? null : { body, version: Buffer.from(body).toString("base64") };
  }

  #set(key: string, body: Uint8Array): void {
    this.objects.set(key, new Uint8Array(body));
    this.#writes.set(key, ++this.#writeCount);
  }

  /** Its clock counts the writes: the same in every replay of a seed. */
  #info(key: string, body: Uint8Array): ObjectInfo {
    return { key, bytes: body.length, modifiedAtMs: this.#writes.get(key) ?? 0 };
  }

  #read(key: string, range?: Readonly<{ start: number; end: number }>): Uint8Array {
    const body = this.objects.get(key);
    if (body === undefined) throw new FleetError("object_missing", `there is no object ${key}`);
    return range === undefined ? body : body.slice(range.start, range.end);
  }

  /** What a seal would believe that knows its windows by listing them: those that follow a lost one are not seen. */
  #closedAsListed(key: string): Uint8Array {
    const { plansSha256: _, ...closed } = JSON.parse(Buffer.from(this.objects.get(key)!).toString()) as ClosedRecord;
    const sums = { windows: 0, documents: 0, rows: 0, tokens: 0, shards: 0, rejects: 0 };
    for (let index = 0; ; index++) {
      const body = this.objects.get(key.replace("closed", windowId(index)));
      if (body === undefined) return Buffer.from(JSON.stringify({ ...closed, ...sums }));
      const plan = JSON.parse(Buffer.from(body).toString()) as WindowPlan;
      sums.windows++;
      sums.documents += plan.documents;
      sums.rows += plan.rows;
      sums.tokens += plan.tokens;
      sums.shards += plan.shards.length;
      sums.rejects += plan.rejects;
    }
  }

  #list(prefix: string): ObjectInfo[] {
    const found = [...this.objects].filter(([key]) => key.startsWith(prefix));
    return found.map(([key, body]) => this.#info(key, body)).sort((a, b) => (a.key < b.key ? -1 : 1));
  }
}

function unavailable(key: string): FleetError {
  return new FleetError("store_unavailable", `simulated fault at ${key}`);
}

interface SimJob {
  readonly payload: JobPayload;
  state: "waiting" | "active" | "failed";
  lease: number;
}

/** Redis: a queue with leases, all gone at a wipe. */
export class SimRedis {
  readonly jobs = new Map<string, SimJob>();
  readonly #scheduler: Scheduler;
  #leases = 0;

  constructor(scheduler: Scheduler) {
    this.#scheduler = scheduler;
  }

  wipe(): void {
    this.jobs.clear();
  }

  /** A lease lapses: the job is another's, whatever its holder thinks. */
  expireOne(): void {
    const job = this.#scheduler.pick([...this.jobs.values()].filter(({ state }) => state === "active"));
    if (job !== undefined) job.state = "waiting";
  }

  expireAll(): void {
    for (const job of this.jobs.values()) if (job.state === "active") job.state = "waiting";
  }

  queueFor(actor: Actor): JobQueue {
    const add = (jobs: readonly JobPayload[]): void => {
      for (const payload of jobs) {
        const id = jobId(payload.run, payload.shard);
        if (!this.jobs.has(id)) this.jobs.set(id, { payload, state: "waiting", lease: 0 });
      }
    };
    return {
      enqueue: ({ jobs }) => this.#call(actor, () => add(jobs)),
      requeue: ({ jobs }) =>
        this.#call(actor, () => {
          for (const { run, shard } of jobs)
            if (this.jobs.get(jobId(run, shard))?.state === "failed") this.jobs.delete(jobId(run, shard));
          add(jobs);
        }),
      remove: ({ jobs }) =>
        this.#call(actor, () => jobs.filter(({ run, shard }) => this.jobs.delete(jobId(run, shard))).length),
      unknown: ({ jobs }) =>
        this.#call(actor, () => jobs.filter(({ run, shard }) => !this.jobs.has(jobId(run, shard)))),
      counts: async (): Promise<QueueCounts> => ({ waiting: this.jobs.size, active: 0, failed: 0 }),
      close: async () => {},
    };
  }

  pull(actor: Actor): Promise<{ job: LeasedJob; lease: number } | null> {
    return this.#call(actor, () => {
      const found = this.#scheduler.pick([...this.jobs].filter(([, { state }]) => state === "waiting"));
      if (found === undefined) return null;
      const [id, job] = found;
      job.state = "active";
      job.lease = ++this.#leases;
      return { job: { id, payload: job.payload, stalls: 0 }, lease: job.lease };
    });
  }

  /** Takes effect only while the lease is held. */
  settle(actor: Actor, id: string, lease: number, as: "completed" | "waiting"): Promise<void> {
    return this.#call(actor, () => {
      const job = this.jobs.get(id);
      if (job?.state !== "active" || job.lease !== lease) return;
      if (as === "completed") this.jobs.delete(id);
      else job.state = "waiting";
    });
  }

  async #call<T>(actor: Actor, act: () => T): Promise<T> {
    await this.#scheduler.step(actor);
    const result = act();
    await this.#scheduler.step(actor);
    return result;
  }
}
