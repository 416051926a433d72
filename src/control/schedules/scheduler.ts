/**
 * Nightly runs. Redis holds the timing (BullMQ's job schedulers), the store the data: schedules and the results of
 * their ticks are objects there, so any number of schedulers, restarts and a wiped Redis result in one run per tick.
 */
import type { Logger } from "pino";
import { runOfSlot, type Schedule, scheduleNameSchema } from "../../core/schedule.ts";
import type { Manifest } from "../../core/contracts.ts";
import { FleetError, hasCode, isPassing, messageOf } from "../../core/errors.ts";
import { runKeys } from "../../core/layout.ts";
import type { ControlQueue, ObjectStore, Tick, TickOutcome, Turn } from "../../core/ports.ts";
import { isCancelled } from "../../run/cancelled.ts";
import { compactedId } from "../../run/compact.ts";
import { whyHeld } from "../../run/hold.ts";
import { readManifest } from "../../run/seal.ts";
import { dueSlot } from "./cron.ts";
import { type SchedulePolicy, sentenceOf } from "./policy.ts";
import { type KeptSchedule, type KnownTick, ScheduleStore } from "./schedule-store.ts";
import { type Notice, sendNotice } from "./webhook.ts";

/** Age after which a tick counts as missed; Redis may just have been told of a younger one. */
const MISSED_AFTER_MS = 60_000;
/** Time after which a notification of an unavailable receiver is given up. */
const TELL_FOR_MS = 24 * 60 * 60 * 1000;

export interface BackfillParams {
  readonly store: ObjectStore;
  readonly queue: ControlQueue;
  readonly turn: Pick<Turn, "take">;
  /** Plans and queues the run; may be called again for a run that was started, or stopped by the signal. */
  readonly start: (
    params: Readonly<{ schedule: Schedule; run: string; since: string | null; signal: AbortSignal }>,
  ) => Promise<void>;
  /** The reason why the workers cannot finish a run; null if they can. */
  readonly findFailure: (run: string) => Promise<string | null>;
  /** The inputs that a schedule may read and the hosts that it may notify. */
  readonly policy: SchedulePolicy;
  /** Signs webhooks; without it none are sent. */
  readonly webhookSecret: string | undefined;
  /** Interval between checks of runs and schedules, and between a waiting tick's checks. */
  readonly intervalMs: number;
  readonly nowMs?: () => number;
  readonly log: Logger;
}

export class BackfillScheduler {
  readonly #params: BackfillParams;
  readonly #schedules: ScheduleStore;
  readonly #nowMs: () => number;
  readonly #stopped = new AbortController();
  /** The last logged problem of each schedule and run. */
  readonly #said = new Map<string, string>();
  #timer: NodeJS.Timeout | null = null;
  #round: Promise<void> = Promise.resolve();

  constructor(params: BackfillParams) {
    this.#params = params;
    this.#nowMs = params.nowMs ?? Date.now;
    this.#schedules = new ScheduleStore(params.store, this.#nowMs);
  }

  async start(): Promise<void> {
    const { queue, intervalMs } = this.#params;
    if (this.#timer !== null) return;
    await this.look();
    await queue.work({ onTick: (tick) => this.tick(tick), onGivenUp: (tick, reason) => this.#giveUp(tick, reason) });
    this.#timer = setInterval(() => void this.#lookInTurn(), intervalMs);
  }

  /** Stops planning; its ticks return to the queue, for another process or a later attempt. */
  async close(): Promise<void> {
    this.#stopped.abort();
    if (this.#timer !== null) clearInterval(this.#timer);
    await this.#round;
  }

  // --- Ticks --------------------------------------------------------------------------------

  /** Makes the tick's run, or returns why not. Idempotent. */
  async tick(tick: Tick): Promise<TickOutcome> {
    try {
      return await this.#tick(tick);
    } catch (error) {
      // A retry would fail in the same way.
      if (hasCode(error, "object_corrupt")) return { kind: "failed", reason: error.message };
      throw error;
    }
  }

  async #tick(tick: Tick): Promise<TickOutcome> {
    // Ticks come from Redis, where others may write.
    if (!isTick(tick, this.#nowMs())) return { kind: "failed", reason: "it is not a tick of a schedule" };
    const kept = await this.#schedules.find(tick.schedule);
    if (kept === null || (kept.state?.isPaused === true && !tick.isTriggered)) return { kind: "done" };
    const { schedule, ticks } = kept;
    const slotMs = tick.isTriggered ? tick.slotMs : this.#slotOf(kept, tick.slotMs);
    const run = runOfSlot(schedule.name, slotMs);
    const known = ticks.find((each) => each.slotMs === slotMs);
    if (known !== undefined && (isOver(known) || (await this.#isPlanned(run)))) return { kind: "done" };
    const refusal = await this.#params.policy.whyRefused(schedule);
    if (refusal !== null) return this.#fail(schedule.name, slotMs, refusal);
    if (known?.events.has("started") !== true) {
      const going = await this.#findGoing(ticks, run);
      if (going !== null) return this.#overlap(schedule, slotMs, going);
    }
    const since = await this.#baseOf(kept, slotMs);
    return this.#begin(schedule, slotMs, since);
  }

  async #fail(name: string, slotMs: number, reason: string): Promise<TickOutcome> {
    await this.#note(name, slotMs, "failed", { reason });
    return { kind: "failed", reason };
  }

  /** The slot that a tick stands for: a late one covers all that were due since. */
  #slotOf({ schedule }: KeptSchedule, slotMs: number): number {
    return Math.max(slotMs, dueSlot(schedule, slotMs, this.#nowMs()) ?? slotMs);
  }

  /** Whether the run is planned. The record's content is irrelevant here: a damaged one fails only its own run. */
  async #isPlanned(run: string): Promise<boolean> {
    return (await this.#params.store.stat({ key: runKeys(run).closed })) !== null;
  }

  /** @param base The run to build on, unless this run was started before. */
  async #begin(schedule: Schedule, slotMs: number, base: string | null): Promise<TickOutcome> {
    const { start, policy, log } = this.#params;
    const run = runOfSlot(schedule.name, slotMs);
    try {
      const { since = null } = await this.#note(schedule.name, slotMs, "started", { since: base });
      log.info({ schedule: schedule.name, run, since }, "a nightly run starts");
      // Checked again just before the start: a link's target may have changed.
      const admitted = await policy.admit(schedule);
      await start({ schedule: admitted, run, since, signal: this.#stopped.signal });
      return { kind: "done" };
    } catch (error) {
      if (this.#stopped.signal.aborted) return { kind: "later", waitMs: 0 };
      if (!(error instanceof FleetError) || isPassing(error)) throw error;
      return this.#fail(schedule.name, slotMs, error.message);
    }
  }

  async #giveUp(tick: Tick, reason: string): Promise<void> {
    const kept = await this.#schedules.find(tick.schedule);
    // The run of an earlier slot, which may still be computing, is not this tick's.
    const started = kept?.ticks.findLast(
      (each) => each.slotMs >= tick.slotMs && each.events.has("started") && !isOver(each),
    );
    if (started !== undefined) await this.#note(tick.schedule, started.slotMs, "failed", { reason });
  }

  async #overlap(schedule: Schedule, slotMs: number, going: string): Promise<TickOutcome> {
    const { log, intervalMs } = this.#params;
    const { name, overlapPolicy } = schedule;
    const isWaiting = overlapPolicy === "wait";
    const hold = await whyHeld(this.#params.store, going);
    const reason = hold === null ? `run ${going} is still going` : `run ${going} is held: ${hold}`;
    await this.#note(name, slotMs, isWaiting ? "waiting" : "skipped", { reason });
    log.info({ schedule: name, going }, isWaiting ? "a tick waits" : "a tick is skipped");
    return isWaiting ? { kind: "later", waitMs: intervalMs } : { kind: "done" };
  }

  /** The schedule's run that was started and is neither sealed, failed nor cancelled. */
  async #findGoing(ticks: readonly KnownTick[], except: string): Promise<string | null> {
    for (const { run, events } of ticks.toReversed()) {
      if (run === except || !events.has("started") || events.has("failed") || events.has("sealed")) continue;
      if (!(await this.#isSealed(run)) && !(await isCancelled(this.#params.store, run))) return run;
    }
    return null;
  }

  /** The newest of the schedule's sealed runs before the slot, in its compacted form if there is one. */
  async #baseOf({ schedule, ticks }: KeptSchedule, slotMs: number): Promise<string | null> {
    for (const tick of ticks.toReversed()) {
      if (tick.slotMs >= slotMs || !tick.events.has("started")) continue;
      for (const run of [compactedId(tick.run), tick.run]) if ((await this.#manifestOf(run)) !== null) return run;
    }
    return schedule.since;
  }

  async #isSealed(run: string): Promise<boolean> {
    return (await this.#params.store.stat({ key: runKeys(run).manifest })) !== null;
  }

  /** Null, too, for a manifest that cannot be read: the next run then builds on an older one. */
  async #manifestOf(run: string): Promise<Manifest | null> {
    try {
      return (await this.#isSealed(run)) ? await readManifest(this.#params.store, run) : null;
    } catch (error) {
      if (isPassing(error)) throw error;
      this.#sayOnce("error", `run ${run}`, messageOf(error));
      return null;
    }
  }

  #note(
    name: string,
    slotMs: number,
    event: "started" | "waiting" | "skipped" | "sealed" | "failed" | "told",
    more: Readonly<{ since?: string | null; reason?: string }> = {},
  ): ReturnType<ScheduleStore["note"]> {
    return this.#schedules.note({ name, slotMs, event, ...more });
  }

  // --- Looking after them -------------------------------------------------------------------

  async #lookInTurn(): Promise<void> {
    const { turn, intervalMs, log } = this.#params;
    try {
      // Slightly less than the interval, or a scheduler would find its own last lease still held.
      if (await turn.take({ durationMs: Math.round(intervalMs * 0.9) })) await this.look();
    } catch (error) {
      log.warn({ err: error }, "the schedules cannot be reconciled");
    }
  }

  /** Reconciles all schedules once: registers them in Redis, makes up for missed ticks, records how runs ended. */
  look(): Promise<void> {
    this.#round = this.#round.then(() => this.#lookAtAll());
    return this.#round;
  }

  async #lookAtAll(): Promise<void> {
    const { log, queue } = this.#params;
    try {
      const { kept, damaged } = await this.#schedules.list();
      for (const { name, problem } of damaged) this.#sayOnce("error", `schedule ${name}`, `is damaged: ${problem}`);
      const names = new Set(kept.filter(({ state }) => state?.isPaused !== true).map(({ schedule }) => schedule.name));
      for (const name of await queue.kept()) if (!names.has(name)) await queue.drop(name);
      for (const each of kept) await this.#lookAt(each);
    } catch (error) {
      log.warn({ err: error }, `the schedules cannot be reconciled: ${messageOf(error)}`);
    }
  }

  async #lookAt(kept: KeptSchedule): Promise<void> {
    const { schedule, state, stateProblem } = kept;
    const { queue, policy } = this.#params;
    const who = `schedule ${schedule.name}`;
    try {
      const problem = stateProblem ?? (await policy.whyRefused(schedule));
      if (problem === null) this.#said.delete(who);
      else this.#sayOnce("warn", who, problem);
      if (state?.isPaused !== true) {
        // Missed ticks are found first: registering the schedule again would forget them.
        await this.#makeUp(kept);
        await queue.keep(schedule);
      }
    } catch (error) {
      this.#sayOnce("error", who, `cannot be reconciled: ${messageOf(error)}`);
    }
    for (const tick of kept.ticks) {
      try {
        await this.#lookAtRun(schedule, tick);
      } catch (error) {
        this.#sayOnce("error", `run ${tick.run}`, `cannot be reconciled: ${messageOf(error)}`);
      }
    }
  }

  /** Logs a problem only when it is new, as persistent ones are found again and again. */
  #sayOnce(level: "warn" | "error", who: string, what: string): void {
    if (this.#said.get(who) === what) return;
    this.#said.set(who, what);
    this.#params.log[level](`${who}: ${what}`);
  }

  /** Restores a tick that was due, or a run that was started but not planned, if Redis does not know of it. */
  async #makeUp(kept: KeptSchedule): Promise<void> {
    const { queue, log } = this.#params;
    const { schedule, state, ticks } = kept;
    const nowMs = this.#nowMs();
    if ((await queue.pending(nowMs)).some((tick) => tick.schedule === schedule.name)) return;
    const newest = ticks.at(-1);
    if (newest !== undefined && !isOver(newest) && !(await this.#isPlanned(newest.run))) {
      log.warn({ schedule: schedule.name, run: newest.run }, "a lost tick was queued again");
      return queue.add({ schedule: schedule.name, slotMs: newest.slotMs, isTriggered: true });
    }
    const floorMs = Math.max(
      Date.parse(schedule.createdAt),
      state === null ? 0 : Date.parse(state.changedAt),
      newest?.slotMs ?? 0,
    );
    const missedMs = dueSlot(schedule, floorMs, nowMs - MISSED_AFTER_MS);
    if (missedMs === null) return;
    log.warn({ schedule: schedule.name, due: new Date(missedMs).toISOString() }, "a missed tick is being made up for");
    await queue.add({ schedule: schedule.name, slotMs: missedMs, isTriggered: false });
  }

  /** Records how a run ended, and sends the webhook. */
  async #lookAtRun(schedule: Schedule, tick: KnownTick): Promise<void> {
    const { name } = schedule;
    const { run, slotMs, events } = tick;
    if (!events.has("started") || events.has("told")) return;
    let outcome: "sealed" | "failed" | null = events.has("sealed") ? "sealed" : events.has("failed") ? "failed" : null;
    if (outcome === null) {
      outcome = (await this.#isSealed(run)) ? "sealed" : null;
      if (outcome !== null) await this.#note(name, slotMs, "sealed");
    }
    if (outcome === null) {
      const reason = await this.#whyFailed(run);
      if (reason === null) return;
      outcome = "failed";
      await this.#note(name, slotMs, "failed", { reason });
    }
    await this.#tell(schedule, tick, outcome);
  }

  async #whyFailed(run: string): Promise<string | null> {
    const { store, findFailure } = this.#params;
    if (await isCancelled(store, run)) return "it was cancelled";
    return (await this.#isPlanned(run)) ? findFailure(run) : null;
  }

  async #tell(schedule: Schedule, { run, slotMs }: KnownTick, outcome: "sealed" | "failed"): Promise<void> {
    const { webhookSecret: secret, policy } = this.#params;
    const { name, webhook } = schedule;
    const nowMs = this.#nowMs();
    const record = await this.#schedules.read(name, slotMs, outcome);
    const isLate = record === null || nowMs - Date.parse(record.at) > TELL_FOR_MS;
    if (webhook === null || isLate) return void (await this.#note(name, slotMs, "told"));
    const who = `webhook of run ${run}`;
    if (secret === undefined)
      return this.#sayOnce("warn", who, "it is not called: EMBEDFLEET_WEBHOOK_SECRET is not set");
    const manifest = outcome === "sealed" ? await this.#manifestOf(run) : null;
    const notice: Notice = {
      id: `${run}.${outcome}`,
      event: `run.${outcome}`,
      schedule: name,
      run,
      at: record.at,
      ...(record.reason !== undefined && { reason: record.reason }),
      ...(manifest !== null && { totals: manifest.totals }),
    };
    try {
      await sendNotice({ url: webhook, secret, notice, nowMs, rule: await policy.hookRule(schedule) });
    } catch (error) {
      if (!(error instanceof FleetError)) throw error;
      return this.#sayOnce("warn", who, `${sentenceOf(error)}; it will be retried`);
    }
    await this.#note(name, slotMs, "told");
  }
}

/** Whether the tick has reached its final state. */
function isOver({ events }: KnownTick): boolean {
  return events.has("skipped") || events.has("sealed") || events.has("failed");
}

/** Whether the tick is plausible. A day exceeds clock differences; a tick beyond that would block all later ones. */
function isTick({ schedule, slotMs }: Tick, nowMs: number): boolean {
  return scheduleNameSchema.safeParse(schedule).success && isSlot(slotMs) && slotMs <= nowMs + 24 * 60 * 60 * 1000;
}

function isSlot(ms: number): boolean {
  return ms > 0 && ms % 1000 === 0;
}
