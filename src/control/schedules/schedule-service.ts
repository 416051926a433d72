/** Adds, lists and changes schedules. */
import { runOfSlot, type Schedule } from "../../core/schedule.ts";
import { CONTRACT_VERSION } from "../../core/contracts.ts";
import { FleetError, isPassing, messageOf } from "../../core/errors.ts";
import type { ControlQueue, ObjectStore } from "../../core/ports.ts";
import type { Schedules, ScheduleView } from "../../core/schedule-view.ts";
import { whyHeld } from "../../run/hold.ts";
import { assertCron, nextSlot } from "./cron.ts";
import type { SchedulePolicy, ScheduleSecret } from "./policy.ts";
import { type DamagedSchedule, type KeptSchedule, type KnownTick, ScheduleStore } from "./schedule-store.ts";
import { signSchedule } from "./signature.ts";
import { assertWebhook } from "./webhook.ts";

export interface BackfillView extends ScheduleView {
  readonly isPaused: boolean;
  /** Result of the newest tick; null before the first. `damaged`: there is an object, but it is not a schedule. */
  readonly lastState: "started" | "waiting" | "skipped" | "held" | "sealed" | "failed" | "damaged" | null;
}

/** Maximum length of a displayed reason from the store. */
const SHOWN_CHARS = 500;
const UNSIGNED = "not signed: control runs it only where --schedule-inputs allow its inputs";

export class ScheduleService implements Schedules {
  readonly #store: ObjectStore;
  readonly #schedules: ScheduleStore;
  readonly #queue: ControlQueue | null;
  readonly #nowMs: () => number;
  readonly #secret: ScheduleSecret;
  readonly #policy: SchedulePolicy | null;
  readonly #keepForMs: number;
  #kept: { readonly views: Promise<BackfillView[]>; readonly atMs: number } | null = null;

  /**
   * @param params.queue Null without a Redis: the host of the schedules will read the change from the store.
   * @param params.secret Signs added schedules; without it they are unsigned.
   * @param params.policy Policy of the process that makes the runs; null in others, which do not know it.
   * @param params.keepForMs Maximum age of a cached list, for frequent callers.
   */
  constructor(
    params: Readonly<{
      store: ObjectStore;
      queue: ControlQueue | null;
      secret?: ScheduleSecret;
      policy?: SchedulePolicy;
      nowMs?: () => number;
      keepForMs?: number;
    }>,
  ) {
    this.#nowMs = params.nowMs ?? Date.now;
    this.#store = params.store;
    this.#schedules = new ScheduleStore(params.store, this.#nowMs);
    this.#queue = params.queue;
    this.#secret = params.secret ?? (async () => null);
    this.#policy = params.policy ?? null;
    this.#keepForMs = params.keepForMs ?? 0;
  }

  /**
   * @returns Whether it is signed.
   * @throws FleetError `bad_usage` for an invalid schedule, `schedule_conflict`
   */
  async add(given: Omit<Schedule, "version" | "createdAt" | "signature">): Promise<{ readonly isSigned: boolean }> {
    assertCron(given, this.#nowMs());
    if (given.webhook !== null) assertWebhook(given.webhook);
    if (given.inputs.includes("-")) {
      throw new FleetError("bad_usage", "a schedule cannot read standard input", {
        cure: "name files, folders or s3://",
      });
    }
    const createdAt = new Date(this.#nowMs()).toISOString();
    const schedule: Schedule = { version: CONTRACT_VERSION, createdAt, ...given };
    const secret = await this.#secret();
    await this.#schedules.add(secret === null ? schedule : signSchedule(schedule, secret));
    await this.#queue?.keep(given);
    return { isSigned: secret !== null };
  }

  async remove(name: string): Promise<void> {
    await this.#schedules.remove(name);
    await this.#queue?.drop(name);
  }

  async pause(name: string): Promise<void> {
    await this.#schedules.setPaused(name, true);
    await this.#queue?.drop(name);
  }

  async resume(name: string): Promise<void> {
    await this.#schedules.setPaused(name, false);
    await this.#queue?.keep((await this.#schedules.get(name)).schedule);
  }

  /** Triggers a tick now. @throws FleetError `schedule_unknown`, `schedule_refused`, `bad_usage` without a Redis. */
  async trigger(params: Readonly<{ name: string }>): Promise<{ readonly run: string }> {
    const { name } = params;
    const { schedule } = await this.#schedules.get(name);
    await this.#policy?.admit(schedule);
    if (this.#queue === null) {
      throw new FleetError("bad_usage", "a schedule is triggered through Redis, and no Redis server was given", {
        cure: "pass --redis redis://host:port or set REDIS_URL",
      });
    }
    const slotMs = Math.floor(this.#nowMs() / 1000) * 1000;
    await this.#queue.add({ schedule: name, slotMs, isTriggered: true });
    return { run: runOfSlot(name, slotMs) };
  }

  list(): Promise<BackfillView[]> {
    const nowMs = this.#nowMs();
    if (this.#kept === null || nowMs - this.#kept.atMs >= this.#keepForMs)
      this.#kept = { views: this.#readAll(), atMs: nowMs };
    return this.#kept.views;
  }

  async #readAll(): Promise<BackfillView[]> {
    const { kept, damaged } = await this.#schedules.list();
    const views = await Promise.all(kept.map((each) => this.#view(each)));
    return [...views, ...damaged.map(viewOfDamaged)].toSorted((a, b) => (a.name < b.name ? -1 : 1));
  }

  async #view({ schedule, state, stateProblem, ticks }: KeptSchedule): Promise<BackfillView> {
    const { name, cron, tz } = schedule;
    const isPaused = state?.isPaused === true;
    const newest = ticks.at(-1);
    const started = ticks.findLast(({ events }) => events.has("started"));
    const order = ["skipped", "failed", "sealed", "started", "waiting"] as const;
    const lastEvent = order.find((event) => newest?.events.has(event)) ?? null;
    const hold = lastEvent === "started" ? await whyHeld(this.#store, newest!.run) : null;
    const lastState = hold === null ? lastEvent : "held";
    const isProblem = lastEvent === "skipped" || lastEvent === "failed" || lastEvent === "waiting";
    const problem = isProblem ? await this.#reasonOf(name, newest!, lastEvent) : hold && `held: ${hold}`;
    // Only the process that makes the runs knows its policy; others report what they can see.
    const unsignedNote = this.#policy === null && schedule.signature === undefined ? UNSIGNED : null;
    return {
      name,
      pattern: cron,
      timezone: tz,
      isPaused,
      lastState,
      nextAt: isPaused ? null : new Date(nextSlot(schedule, this.#nowMs())).toISOString(),
      lastAt: started === undefined ? null : new Date(started.slotMs).toISOString(),
      lastRun: started?.run ?? null,
      problem: shortened(stateProblem ?? (await this.#policy?.whyRefused(schedule)) ?? problem ?? unsignedNote),
    };
  }

  async #reasonOf(name: string, { slotMs }: KnownTick, event: "skipped" | "failed" | "waiting"): Promise<string> {
    try {
      const record = await this.#schedules.read(name, slotMs, event);
      return `${event}: ${record?.reason ?? "no reason was recorded"}`;
    } catch (error) {
      if (isPassing(error)) throw error;
      return `${event}: ${messageOf(error)}`;
    }
  }
}

function viewOfDamaged({ name, problem }: DamagedSchedule): BackfillView {
  const nothing = { pattern: "", timezone: "", isPaused: false, nextAt: null, lastAt: null, lastRun: null };
  return { name, ...nothing, lastState: "damaged", problem: shortened(`damaged: ${problem}`) };
}

function shortened(text: string | null): string | null {
  return text !== null && text.length > SHOWN_CHARS ? `${text.slice(0, SHOWN_CHARS)}…` : text;
}
