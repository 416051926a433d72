/** Redis under a scheduler: a queue with leases, turns and a clock, seen by each actor through its own handles, all gone at a wipe. */
import { FleetError } from "../../src/core/errors.ts";
import type { Clock } from "../../src/core/clock.ts";
import type { JobLeases, LeasedJob, Pulled, Turn } from "../../src/core/ports.ts";
import { MemoryJobs, type Settlement } from "../fixtures/memory-jobs.ts";
import type { FullQueue } from "../conformance/job-queue.suite.ts";
import { MemoryTurns } from "../fixtures/memory-turn.ts";
import type { Actor, Scheduler } from "./scheduler.ts";
import type { Sabotage } from "./sabotage.ts";

/** For how long it is waited for a first job. */
const WAIT_MS = 10_000;
const FULL = "simulated: OOM command not allowed";

export class SimRedis {
  readonly known: MemoryJobs;
  readonly turns = new MemoryTurns();
  /** The chance that a call fails, before or after it took effect. */
  faultShare = 0;
  readonly #scheduler: Scheduler;
  readonly #sabotage: Sabotage;

  constructor(scheduler: Scheduler, sabotage: Sabotage = {}) {
    this.#scheduler = scheduler;
    this.#sabotage = sabotage;
    // Any order: other workers take jobs, too.
    this.known = new MemoryJobs({ pick: (ids) => scheduler.pick(ids) });
  }

  wipe(): void {
    this.known.wipe();
    this.turns.wipe();
  }

  expireOne(): void {
    const id = this.#scheduler.pick(this.known.active);
    if (id !== undefined) this.known.lapse(id);
  }

  /** What the dead held is free. */
  expireAll(): void {
    for (const id of this.known.active) this.known.lapse(id);
    this.turns.wipe();
  }

  pass(ms: number): void {
    this.known.nowMs += ms;
    this.turns.pass(ms);
  }

  clockOf(actor: Actor): Clock {
    return {
      nowMs: () => this.known.nowMs,
      sleep: async (ms) => {
        await this.#scheduler.step(actor);
        this.pass(ms);
      },
    };
  }

  queueFor(actor: Actor): FullQueue {
    const { known } = this;
    const call = <T>(act: () => T): Promise<T> => this.#call(actor, act);
    return {
      enqueue: ({ jobs }) => call(() => known.enqueue(jobs)),
      requeue: ({ jobs }) => call(() => known.requeue(jobs)),
      unknown: ({ jobs }) => call(() => known.unknown(jobs)),
      remove: ({ jobs }) => call(() => known.remove(jobs)),
      counts: () => call(() => known.counts()),
      load: () => call(() => known.load()),
      failures: ({ run, limit }) => call(() => known.failures(run, limit)),
      close: async () => {},
    };
  }

  leasesFor(actor: Actor): JobLeases {
    const { known } = this;
    const leases = new Map<string, number>();
    const settle = (job: LeasedJob, as: Settlement): Promise<boolean> => {
      const lease = leases.get(job.id);
      leases.delete(job.id);
      return this.#call(actor, () => known.settle(job.id, lease, as));
    };
    const returned = (afterMs: number, isFault: boolean): Settlement => ({ kind: "returned", afterMs, isFault });
    return {
      pull: (params) => this.#pull(actor, params, leases),
      complete: async ({ job }) => ((await settle(job, { kind: "completed" })) ? "completed" : "lease-lost"),
      giveBack: async ({ job, afterMs = 0 }) => void (await settle(job, returned(afterMs, false))),
      retry: async ({ job, afterMs }) => void (await settle(job, returned(afterMs, true))),
      fail: async ({ job, reason }) => void (await settle(job, { kind: "failed", reason })),
      close: async () => void known.holders.delete(actor),
    };
  }

  /** What is away gives out nothing for now: a pull does not fail for it. */
  async #pull(
    actor: Actor,
    { max, wait, until }: Readonly<{ max: number; wait: boolean; until?: AbortSignal }>,
    own: Map<string, number>,
  ): Promise<Pulled> {
    await this.#scheduler.step(actor);
    if (until?.aborted === true || this.#scheduler.chance(this.faultShare)) return { jobs: [], refused: [] };
    const { leases, ...pulled } = this.known.pull(actor, max);
    for (const [id, lease] of leases) own.set(id, lease);
    if (this.#sabotage.completesFirst === true)
      for (const [id, lease] of leases) this.known.settle(id, lease, { kind: "completed" });
    if (wait && leases.size === 0) this.pass(WAIT_MS);
    await this.#scheduler.step(actor);
    return pulled;
  }

  turnFor(actor: Actor): Turn {
    const { turns } = this;
    turns.holders.add(actor);
    const call = <T>(act: () => T): Promise<T> => this.#call(actor, act);
    return {
      take: ({ durationMs }) => call(() => turns.take(durationMs)),
      hold: async ({ name, durationMs }) => {
        const mine = await call(() => turns.hold(name, actor, durationMs));
        if (mine === null) return null;
        return { release: () => call(() => turns.release(name, mine)).catch(() => {}) };
      },
      close: async () => void turns.holders.delete(actor),
    };
  }

  async #call<T>(actor: Actor, act: () => T): Promise<T> {
    await this.#scheduler.step(actor);
    const fails = this.#scheduler.chance(this.faultShare);
    if (fails && this.#scheduler.chance(0.5)) throw new FleetError("redis_unavailable", FULL);
    const result = act();
    await this.#scheduler.step(actor);
    if (fails) throw new FleetError("redis_unavailable", FULL);
    return result;
  }
}
