/** Where schedules are added, looked at and changed. */
import type { ControlQueue } from "../../src/adapters/redis/control-queue.ts";
import { runOfSlot, type Schedule } from "../../src/core/backfill.ts";
import { CONTRACT_VERSION } from "../../src/core/contracts.ts";
import { FleetError } from "../../src/core/errors.ts";
import type { ObjectStore } from "../../src/core/ports.ts";
import type { Schedules, ScheduleView } from "../../src/core/schedules.ts";
import { assertCron, nextSlot } from "./cron.ts";
import { type KeptSchedule, ScheduleBook } from "./schedule-book.ts";
import { assertWebhook } from "./webhook.ts";

export interface BackfillView extends ScheduleView {
  readonly isPaused: boolean;
  /** What became of the newest tick; null before the first. */
  readonly lastState: "started" | "waiting" | "skipped" | "sealed" | "failed" | null;
}

export class BackfillDesk implements Schedules {
  readonly #book: ScheduleBook;
  readonly #queue: ControlQueue | null;
  readonly #nowMs: () => number;
  readonly #keepForMs: number;
  #kept: { readonly views: Promise<BackfillView[]>; readonly atMs: number } | null = null;

  /**
   * @param params.queue Null when there is no Redis at hand: whoever hosts the schedules will see what changed.
   * @param params.keepForMs How old a list may be, for those who ask often.
   */
  constructor(
    params: Readonly<{
      store: ObjectStore;
      queue: ControlQueue | null;
      nowMs?: () => number;
      keepForMs?: number;
    }>,
  ) {
    this.#book = new ScheduleBook(params.store);
    this.#queue = params.queue;
    this.#nowMs = params.nowMs ?? Date.now;
    this.#keepForMs = params.keepForMs ?? 0;
  }

  /** @throws FleetError `bad_usage` for what cannot work, `schedule_conflict` */
  async add(given: Omit<Schedule, "version" | "createdAt">): Promise<void> {
    assertCron(given, this.#nowMs());
    if (given.webhook !== null) assertWebhook(given.webhook);
    if (given.inputs.includes("-")) {
      throw new FleetError("bad_usage", "a schedule cannot read standard input", {
        cure: "name files, folders or s3://",
      });
    }
    const createdAt = new Date(this.#nowMs()).toISOString();
    await this.#book.add({ version: CONTRACT_VERSION, createdAt, ...given });
    await this.#queue?.keep(given);
  }

  async remove(name: string): Promise<void> {
    await this.#book.remove(name);
    await this.#queue?.drop(name);
  }

  async pause(name: string): Promise<void> {
    await this.#book.setPaused(name, true, this.#nowMs());
    await this.#queue?.drop(name);
  }

  async resume(name: string): Promise<void> {
    await this.#book.setPaused(name, false, this.#nowMs());
    await this.#queue?.keep((await this.#book.get(name)).schedule);
  }

  /** @throws FleetError `schedule_unknown`, `bad_usage` without a Redis. */
  async trigger(params: Readonly<{ name: string }>): Promise<{ readonly run: string }> {
    const { name } = params;
    await this.#book.get(name);
    if (this.#queue === null) {
      throw new FleetError("bad_usage", "a schedule is triggered through Redis, and none was named", {
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
    return Promise.all((await this.#book.list()).map((kept) => this.#view(kept)));
  }

  async #view({ schedule, state, ticks }: KeptSchedule): Promise<BackfillView> {
    const { name, cron, tz } = schedule;
    const isPaused = state?.isPaused === true;
    const newest = ticks.at(-1);
    const started = ticks.findLast(({ events }) => events.has("started"));
    const order = ["skipped", "failed", "sealed", "started", "waiting"] as const;
    const lastState = order.find((event) => newest?.events.has(event)) ?? null;
    const isProblem = lastState === "skipped" || lastState === "failed" || lastState === "waiting";
    const record = isProblem ? await this.#book.read(name, newest!.slotMs, lastState) : null;
    return {
      name,
      pattern: cron,
      timezone: tz,
      isPaused,
      lastState,
      nextAt: isPaused ? null : new Date(nextSlot(schedule, this.#nowMs())).toISOString(),
      lastAt: started === undefined ? null : new Date(started.slotMs).toISOString(),
      lastRun: started?.run ?? null,
      problem: record === null ? null : `${lastState}: ${record.reason ?? "no reason was kept"}`,
    };
  }
}
