/** `embedfleet backfill`: nightly incremental runs. */
import { resolve } from "node:path";
import type { Logger } from "pino";
import type { ControlQueue, ObjectStore } from "../../core/ports.ts";
import { ScheduleService } from "../../control/schedules/schedule-service.ts";
import type { Schedule } from "../../core/schedule.ts";
import { PLAN_NAMES } from "../../fleet/settings.ts";
import type { AddBackfillCommand, SchedulesCommand } from "../command-settings.ts";
import { loggerOf, printJson, printLine } from "../output.ts";
import { checkedServerOf, type Closer, openStoreOf, withCloser } from "../../fleet/open-ports.ts";
import { scheduleLine } from "../format-report.ts";
import { makeScheduleSecret } from "../../control/schedules/schedule-key.ts";
import { userModels, scheduleKeyPlaces } from "../environment.ts";
import { ensureStoreId } from "../../run/store-id.ts";

export async function addBackfill(
  name: string,
  inputs: readonly string[],
  settings: AddBackfillCommand,
): Promise<void> {
  await withSchedules(settings, async (service) => {
    const { cron, tz, overlapPolicy, webhook = null, since = null } = settings;
    const options = planOptionsOf(settings);
    // The process that makes the runs may have another working directory.
    const places = inputs.map((input) => (input === "-" || input.includes("://") ? input : resolve(input)));
    const { isSigned } = await service.add({ name, cron, tz, overlapPolicy, webhook, since, inputs: places, options });
    await show(service, settings, name);
    if (!isSigned)
      loggerOf(settings).warn(
        { schedule: name },
        "the schedule is not signed, so control runs it only if --schedule-inputs allow its inputs; to sign it, set EMBEDFLEET_SCHEDULE_SECRET here and for control",
      );
  });
}

/** The plan options that a schedule stores. */
function planOptionsOf(settings: AddBackfillCommand): Schedule["options"] {
  const given = PLAN_NAMES.map((name) => [name, settings[name]] as const)
    // The default models folder of this machine means nothing on another; a folder that was named is kept.
    .filter(([name, value]) => value !== undefined && !(name === "models" && value === userModels(process.env)));
  return JSON.parse(JSON.stringify(Object.fromEntries(given))) as Schedule["options"];
}

export async function listBackfills(settings: SchedulesCommand): Promise<void> {
  await withCloser(async (closer) => {
    const store = await openStoreOf(settings, closer, { makeRoot: true });
    if (settings.redis !== undefined) await checkedServerOf(settings, loggerOf(settings));
    // The store has all that is shown, and opening the queue would write to Redis.
    await show(new ScheduleService({ store, queue: null }), settings);
  });
}

export async function removeBackfill(name: string, settings: SchedulesCommand): Promise<void> {
  await withSchedules(settings, async (service) => {
    await service.remove(name);
    if (settings.json) printJson({ removed: name });
    else printLine(`${name} is removed; its runs stay`);
  });
}

export async function pauseBackfill(name: string, settings: SchedulesCommand): Promise<void> {
  await withSchedules(settings, async (service) => {
    await service.pause(name);
    await show(service, settings, name);
  });
}

export async function resumeBackfill(name: string, settings: SchedulesCommand): Promise<void> {
  await withSchedules(settings, async (service) => {
    await service.resume(name);
    await show(service, settings, name);
  });
}

export async function triggerBackfill(name: string, settings: SchedulesCommand): Promise<void> {
  await withSchedules(settings, async (service) => {
    const { run } = await service.trigger({ name });
    if (settings.json) printJson({ name, run });
    else printLine(`${name}: run ${run} begins when \`embedfleet control\` takes it up`);
  });
}

/** Without Redis only the store is changed; `embedfleet control` sees the change within seconds. */
async function withSchedules(
  settings: SchedulesCommand,
  act: (service: ScheduleService) => Promise<void>,
): Promise<void> {
  await withCloser(async (closer) => {
    const log = loggerOf(settings);
    // A schedule may be the first object in a store.
    const store = await openStoreOf(settings, closer, { makeRoot: true });
    const queue = settings.redis === undefined ? null : await controlQueueOf(store, settings, closer, log);
    await act(new ScheduleService({ store, queue, secret: () => makeScheduleSecret(scheduleKeyPlaces()) }));
  });
}

async function controlQueueOf(
  store: ObjectStore,
  settings: SchedulesCommand,
  closer: Closer,
  log: Logger,
): Promise<ControlQueue> {
  const server = await checkedServerOf(settings, log);
  return closer.add(server.ofStore(await ensureStoreId(store)).control());
}

async function show(service: ScheduleService, settings: Pick<SchedulesCommand, "json">, name?: string): Promise<void> {
  const views = (await service.list()).filter((view) => name === undefined || view.name === name);
  if (settings.json) return printJson(name === undefined ? views : views[0]);
  if (views.length === 0) printLine("there are no schedules");
  for (const view of views) printLine(scheduleLine(view));
}
