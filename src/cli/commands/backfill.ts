/** `embedfleet backfill`: nightly incremental runs. */
import { resolve } from "node:path";
import { ScheduleService } from "../../control/schedules/schedule-service.ts";
import type { OverlapPolicy } from "../../core/schedule.ts";
import { loggerOf, printJson, printLine, type StoreFlags } from "../output.ts";
import { checkedServerOf, openStoreOf, withCloser } from "../../fleet/open-ports.ts";
import { planOptionsOf } from "../../fleet/host-schedules.ts";
import { scheduleLine } from "../format-report.ts";
import { makeScheduleSecret } from "../../control/schedules/schedule-key.ts";
import { scheduleKeyPlaces } from "../../config.ts";

interface ScheduleFlags extends StoreFlags {
  readonly redis?: string;
  readonly allowVolatileRedis: boolean;
  readonly fleet: string;
  readonly json: boolean;
}

export interface AddFlags extends ScheduleFlags {
  readonly cron: string;
  readonly tz: string;
  readonly overlapPolicy: OverlapPolicy;
  readonly webhook?: string;
  readonly since?: string;
}

export async function addBackfill(name: string, inputs: readonly string[], flags: AddFlags): Promise<void> {
  await withSchedules(flags, async (service) => {
    const { cron, tz, overlapPolicy, webhook = null, since = null } = flags;
    const options = planOptionsOf({ ...flags });
    // Whoever makes the runs may stand in another folder.
    const places = inputs.map((input) => (input === "-" || input.includes("://") ? input : resolve(input)));
    const { isSigned } = await service.add({ name, cron, tz, overlapPolicy, webhook, since, inputs: places, options });
    await show(service, flags, name);
    if (!isSigned)
      loggerOf(flags).warn(
        { schedule: name },
        "the schedule is not signed, so control runs it only where --schedule-inputs allow what it reads; set EMBEDFLEET_SCHEDULE_SECRET here and for control to sign",
      );
  });
}

export async function listBackfills(flags: ScheduleFlags): Promise<void> {
  await withSchedules(flags, (service) => show(service, flags));
}

export async function removeBackfill(name: string, flags: ScheduleFlags): Promise<void> {
  await withSchedules(flags, async (service) => {
    await service.remove(name);
    if (flags.json) printJson({ removed: name });
    else printLine(`${name} is removed; its runs stay`);
  });
}

export async function pauseBackfill(name: string, flags: ScheduleFlags): Promise<void> {
  await withSchedules(flags, async (service) => {
    await service.pause(name);
    await show(service, flags, name);
  });
}

export async function resumeBackfill(name: string, flags: ScheduleFlags): Promise<void> {
  await withSchedules(flags, async (service) => {
    await service.resume(name);
    await show(service, flags, name);
  });
}

export async function triggerBackfill(name: string, flags: ScheduleFlags): Promise<void> {
  await withSchedules(flags, async (service) => {
    const { run } = await service.trigger({ name });
    if (flags.json) printJson({ name, run });
    else printLine(`${name}: run ${run} begins when \`embedfleet control\` takes it up`);
  });
}

/** Without a Redis only the store is changed; `embedfleet control` sees it within seconds. */
async function withSchedules(flags: ScheduleFlags, act: (service: ScheduleService) => Promise<void>): Promise<void> {
  await withCloser(async (closer) => {
    const log = loggerOf(flags);
    // A schedule may be the first thing in a store.
    const store = await openStoreOf(flags, closer, { makeRoot: true });
    const queue = flags.redis === undefined ? null : closer.add((await checkedServerOf(flags, log)).control());
    await act(new ScheduleService({ store, queue, secret: () => makeScheduleSecret(scheduleKeyPlaces()) }));
  });
}

async function show(service: ScheduleService, flags: Pick<ScheduleFlags, "json">, name?: string): Promise<void> {
  const views = (await service.list()).filter((view) => name === undefined || view.name === name);
  if (flags.json) return printJson(name === undefined ? views : views[0]);
  if (views.length === 0) printLine("there are no schedules");
  for (const view of views) printLine(scheduleLine(view));
}
