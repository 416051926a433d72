/** Schedules and what became of their ticks, in the store: what Redis is filled from when it was wiped. */
import {
  runOfSlot,
  type Schedule,
  scheduleSchema,
  type ScheduleState,
  scheduleStateSchema,
  slotName,
  slotOf,
  type TickEvent,
  tickEventSchema,
  type TickRecord,
  tickRecordSchema,
} from "../../src/core/backfill.ts";
import { CONTRACT_VERSION } from "../../src/core/contracts.ts";
import { FleetError } from "../../src/core/errors.ts";
import { findRecord, readRecord, toJsonBytes } from "../../src/core/json.ts";
import { scheduleKeys, SCHEDULES_PREFIX } from "../../src/core/layout.ts";
import type { ObjectStore } from "../../src/core/ports.ts";

/** A tick that something is known of. */
export interface KnownTick {
  readonly slotMs: number;
  readonly run: string;
  readonly events: ReadonlySet<TickEvent>;
}

export interface KeptSchedule {
  readonly schedule: Schedule;
  readonly state: ScheduleState | null;
  /** Oldest first. */
  readonly ticks: readonly KnownTick[];
}

export class ScheduleBook {
  readonly #store: ObjectStore;

  constructor(store: ObjectStore) {
    this.#store = store;
  }

  /** @throws FleetError `schedule_conflict` when there is another of that name. */
  async add(schedule: Schedule): Promise<void> {
    const key = scheduleKeys(schedule.name).record;
    const body = toJsonBytes(scheduleSchema.parse(schedule));
    if ((await this.#store.create({ key, body })) === "created") return;
    throw new FleetError("schedule_conflict", `there is a schedule ${schedule.name} already`, {
      cure: `remove it first: embedfleet backfill remove ${schedule.name}; its runs stay, and the new one goes on from them`,
    });
  }

  /** The ticks stay, so that a schedule of the same name goes on from their runs. */
  async remove(name: string): Promise<void> {
    await this.get(name);
    await this.#store.remove({ key: scheduleKeys(name).state });
    await this.#store.remove({ key: scheduleKeys(name).record });
  }

  /** @throws FleetError `schedule_unknown` */
  async get(name: string): Promise<KeptSchedule> {
    const found = await this.find(name);
    if (found !== null) return found;
    throw new FleetError("schedule_unknown", `there is no schedule ${JSON.stringify(name)} in ${this.#store.url}`, {
      cure: "`embedfleet backfill list --out URL` lists them",
    });
  }

  async find(name: string): Promise<KeptSchedule | null> {
    const keys = scheduleKeys(name);
    const schedule = await findRecord(this.#store, keys.record, scheduleSchema);
    if (schedule === null) return null;
    const state = await findRecord(this.#store, keys.state, scheduleStateSchema);
    return { schedule, state, ticks: await this.#ticks(name) };
  }

  async list(): Promise<KeptSchedule[]> {
    const names: string[] = [];
    for await (const { key } of this.#store.list({ prefix: SCHEDULES_PREFIX })) {
      const name = /^schedules\/([^/]+)\.json$/.exec(key)?.[1];
      if (name !== undefined) names.push(name);
    }
    const found = await Promise.all(names.map((name) => this.find(name)));
    return found.filter((each) => each !== null);
  }

  async setPaused(name: string, isPaused: boolean, nowMs: number): Promise<void> {
    await this.get(name);
    const state: ScheduleState = {
      version: CONTRACT_VERSION,
      isPaused,
      changedAt: new Date(nowMs).toISOString(),
    };
    await this.#store.replace({ key: scheduleKeys(name).state, body: toJsonBytes(state) });
  }

  /** @returns The event as it is in the store: another's, when that one was first. */
  async note(
    params: Readonly<{ name: string; slotMs: number; event: TickEvent; nowMs: number }> &
      Pick<TickRecord, "since" | "reason">,
  ): Promise<TickRecord> {
    const { name, slotMs, event, nowMs, since, reason } = params;
    const key = scheduleKeys(name).tick(slotName(slotMs), event);
    const record: TickRecord = {
      version: CONTRACT_VERSION,
      run: runOfSlot(name, slotMs),
      at: new Date(nowMs).toISOString(),
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
      if (slotMs === null || !event.success) continue;
      ticks.set(slotMs, (ticks.get(slotMs) ?? new Set()).add(event.data));
    }
    return [...ticks]
      .toSorted(([a], [b]) => a - b)
      .map(([slotMs, events]) => ({ slotMs, run: runOfSlot(name, slotMs), events }));
  }
}
