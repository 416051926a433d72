/** Schedules and the results of their ticks, in the store, from which Redis is refilled after it was wiped. */
import {
  runOfSlot,
  type Schedule,
  scheduleNameSchema,
  scheduleSchema,
  type ScheduleState,
  scheduleStateSchema,
  slotName,
  slotOf,
  type TickEvent,
  tickEventSchema,
  type TickRecord,
  tickRecordSchema,
} from "../../core/schedule.ts";
import { CONTRACT_VERSION } from "../../core/contracts.ts";
import { FleetError, isPassing, messageOf } from "../../core/errors.ts";
import { findRecord, readRecord, toJsonBytes } from "../../core/json.ts";
import { scheduleKeys, SCHEDULES_PREFIX } from "../../core/layout.ts";
import type { ObjectStore } from "../../core/ports.ts";
import { mapConcurrent } from "../../run/map-concurrent.ts";
import { assertCron } from "./cron.ts";

/** A tick with recorded events. */
export interface KnownTick {
  readonly slotMs: number;
  readonly run: string;
  readonly events: ReadonlySet<TickEvent>;
}

export interface KeptSchedule {
  readonly schedule: Schedule;
  /** Paused when it cannot be read, since it may be. */
  readonly state: ScheduleState | null;
  /** The problem of a state that cannot be read; null when it can. */
  readonly stateProblem: string | null;
  /** Ticks, oldest first. */
  readonly ticks: readonly KnownTick[];
}

/** An object in the place of a schedule that is not one, and why. */
export interface DamagedSchedule {
  readonly name: string;
  readonly problem: string;
}

/** Tolerance for clock differences; a tick more than this in the future is not real. */
const CLOCKS_DIFFER_MS = 24 * 60 * 60 * 1000;
const READS_IN_FLIGHT = 16;

export class ScheduleStore {
  readonly #store: ObjectStore;
  readonly #nowMs: () => number;

  constructor(store: ObjectStore, nowMs: () => number) {
    this.#store = store;
    this.#nowMs = nowMs;
  }

  /** @throws FleetError `schedule_conflict` when there is another of the same name. */
  async add(schedule: Schedule): Promise<void> {
    const key = scheduleKeys(schedule.name).record;
    const body = toJsonBytes(scheduleSchema.parse(schedule));
    if ((await this.#store.create({ key, body })) === "created") return;
    throw new FleetError("schedule_conflict", `a schedule ${schedule.name} already exists`, {
      cure: `remove it first: embedfleet backfill remove ${schedule.name}; its runs are kept, and the new one continues from them`,
    });
  }

  /** Removes a schedule. Its ticks stay, so that a schedule of the same name continues from their runs. */
  async remove(name: string): Promise<void> {
    // A schedule that cannot be read can be removed, too.
    if ((await this.#store.stat({ key: scheduleKeys(name).record })) === null) throw this.#unknown(name);
    await this.#store.remove({ key: scheduleKeys(name).state });
    await this.#store.remove({ key: scheduleKeys(name).record });
  }

  /** A schedule by name. @throws FleetError `schedule_unknown`, `object_corrupt` */
  async get(name: string): Promise<KeptSchedule> {
    const found = await this.find(name);
    if (found !== null) return found;
    throw this.#unknown(name);
  }

  #unknown(name: string): FleetError {
    return new FleetError("schedule_unknown", `there is no schedule ${JSON.stringify(name)} in ${this.#store.url}`, {
      cure: "`embedfleet backfill list --out URL` lists them",
    });
  }

  /** A schedule or null. @throws FleetError `object_corrupt` for an object that is not a schedule of that name. */
  async find(name: string): Promise<KeptSchedule | null> {
    const key = scheduleKeys(name).record;
    const schedule = await findRecord(this.#store, key, scheduleSchema);
    if (schedule === null) return null;
    try {
      if (schedule.name !== name) throw new Error(`it names schedule ${schedule.name}`);
      assertCron(schedule, this.#nowMs());
    } catch (error) {
      throw new FleetError("object_corrupt", `${this.#store.url}/${key} is not a schedule: ${messageOf(error)}`, {
        cure: `remove it and add it again: embedfleet backfill remove ${name}`,
      });
    }
    return { schedule, ...(await this.#state(name)), ticks: await this.#ticks(name) };
  }

  async #state(name: string): Promise<Pick<KeptSchedule, "state" | "stateProblem">> {
    try {
      return {
        state: await findRecord(this.#store, scheduleKeys(name).state, scheduleStateSchema),
        stateProblem: null,
      };
    } catch (error) {
      if (isPassing(error)) throw error;
      const state = { version: CONTRACT_VERSION, isPaused: true, changedAt: new Date(this.#nowMs()).toISOString() };
      return { state: state as ScheduleState, stateProblem: messageOf(error) };
    }
  }

  /** All schedules, read independently: a damaged one does not affect the others. */
  async list(): Promise<{ kept: KeptSchedule[]; damaged: DamagedSchedule[] }> {
    const kept: KeptSchedule[] = [];
    const damaged: DamagedSchedule[] = [];
    for await (const found of mapConcurrent(this.#names(), READS_IN_FLIGHT, (name) => this.#findOrSay(name))) {
      if (found === null) continue;
      if ("problem" in found) damaged.push(found);
      else kept.push(found);
    }
    return { kept, damaged };
  }

  async *#names(): AsyncGenerator<string> {
    for await (const { key } of this.#store.list({ prefix: SCHEDULES_PREFIX })) {
      const name = /^schedules\/([^/]+)\.json$/.exec(key)?.[1];
      if (name !== undefined) yield name;
    }
  }

  async #findOrSay(name: string): Promise<KeptSchedule | DamagedSchedule | null> {
    try {
      if (!scheduleNameSchema.safeParse(name).success) return { name, problem: "it is not a schedule's name" };
      return await this.find(name);
    } catch (error) {
      if (isPassing(error)) throw error;
      return { name, problem: messageOf(error) };
    }
  }

  async setPaused(name: string, isPaused: boolean): Promise<void> {
    await this.get(name);
    const state: ScheduleState = {
      version: CONTRACT_VERSION,
      isPaused,
      changedAt: new Date(this.#nowMs()).toISOString(),
    };
    await this.#store.replace({ key: scheduleKeys(name).state, body: toJsonBytes(state) });
  }

  /** @returns The event that the store has: another writer's, if that was first. */
  async note(
    params: Readonly<{ name: string; slotMs: number; event: TickEvent }> & Pick<TickRecord, "since" | "reason">,
  ): Promise<TickRecord> {
    const { name, slotMs, event, since, reason } = params;
    const key = scheduleKeys(name).tick(slotName(slotMs), event);
    const record: TickRecord = {
      version: CONTRACT_VERSION,
      run: runOfSlot(name, slotMs),
      at: new Date(this.#nowMs()).toISOString(),
      ...(since !== undefined && { since }),
      ...(reason !== undefined && { reason }),
    };
    if ((await this.#store.create({ key, body: toJsonBytes(record) })) === "created") return record;
    return readRecord(this.#store, key, tickRecordSchema);
  }

  read(name: string, slotMs: number, event: TickEvent): Promise<TickRecord | null> {
    return findRecord(this.#store, scheduleKeys(name).tick(slotName(slotMs), event), tickRecordSchema);
  }

  async #ticks(name: string): Promise<KnownTick[]> {
    const { ticksPrefix } = scheduleKeys(name);
    const ticks = new Map<number, Set<TickEvent>>();
    for await (const { key } of this.#store.list({ prefix: ticksPrefix })) {
      const [slot = "", file = ""] = key.slice(ticksPrefix.length).split("/");
      const slotMs = slotOf(slot);
      const event = tickEventSchema.safeParse(file.replace(/\.json$/, ""));
      // A tick in the future would prevent all earlier ones from being made.
      if (slotMs === null || !event.success || slotMs > this.#nowMs() + CLOCKS_DIFFER_MS) continue;
      ticks.set(slotMs, (ticks.get(slotMs) ?? new Set()).add(event.data));
    }
    return [...ticks]
      .toSorted(([a], [b]) => a - b)
      .map(([slotMs, events]) => ({ slotMs, run: runOfSlot(name, slotMs), events }));
  }
}
