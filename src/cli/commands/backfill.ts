/** `embedfleet backfill`: nightly incremental runs. */
import { resolve } from "node:path";
import { BackfillDesk } from "../../control/schedules/schedule-service.ts";
import { ControlQueue } from "../../adapters/redis/control-queue.ts";
import { checkRedis } from "../../adapters/redis/connect.ts";
import type { OverlapPolicy } from "../../core/schedule.ts";
import { loggerOf, printJson, printLine, type StoreFlags } from "../output.ts";
import { openStoreOf, withCloser } from "../../fleet/open-ports.ts";
import { planOptionsOf } from "../../fleet/host-schedules.ts";
import { scheduleLine } from "../format-report.ts";
import { makeScheduleSecret } from "../schedule-key.ts";

interface DeskFlags extends StoreFlags {
  readonly redis?: string;
  readonly allowVolatileRedis: boolean;
  readonly fleet: string;
  readonly json: boolean;
}

export interface AddFlags extends DeskFlags {
  readonly cron: string;
  readonly tz: string;
  readonly overlapPolicy: OverlapPolicy;
  readonly webhook?: string;
  readonly since?: string;
}

export async function addBackfill(name: string, inputs: readonly string[], flags: AddFlags): Promise<void> {
  await atDesk(flags, async (desk) => {
    const { cron, tz, overlapPolicy, webhook = null, since = null } = flags;
    const options = planOptionsOf({ ...flags });
    // Whoever makes the runs may stand in another folder.
    const places = inputs.map((input) => (input === "-" || input.includes("://") ? input : resolve(input)));
    const { isSigned } = await desk.add({ name, cron, tz, overlapPolicy, webhook, since, inputs: places, options });
    await show(desk, flags, name);
    if (!isSigned)
      loggerOf(flags).warn(
        { schedule: name },
        "the schedule is not signed, so control runs it only where --schedule-inputs allow what it reads; set EMBEDFLEET_SCHEDULE_SECRET here and for control to sign",
      );
  });
}

export async function listBackfills(flags: DeskFlags): Promise<void> {
  await atDesk(flags, (desk) => show(desk, flags));
}

export async function removeBackfill(name: string, flags: DeskFlags): Promise<void> {
  await atDesk(flags, async (desk) => {
    await desk.remove(name);
    if (flags.json) printJson({ removed: name });
    else printLine(`${name} is removed; its runs stay`);
  });
}

export async function pauseBackfill(name: string, flags: DeskFlags): Promise<void> {
  await atDesk(flags, async (desk) => {
    await desk.pause(name);
    await show(desk, flags, name);
  });
}

export async function resumeBackfill(name: string, flags: DeskFlags): Promise<void> {
  await atDesk(flags, async (desk) => {
    await desk.resume(name);
    await show(desk, flags, name);
  });
}

export async function triggerBackfill(name: string, flags: DeskFlags): Promise<void> {
  await atDesk(flags, async (desk) => {
    const { run } = await desk.trigger({ name });
    if (flags.json) printJson({ name, run });
    else printLine(`${name}: run ${run} begins when \`embedfleet control\` takes it up`);
  });
}

/** Without a Redis only the store is changed; `embedfleet control` sees it within seconds. */
async function atDesk(flags: DeskFlags, act: (desk: BackfillDesk) => Promise<void>): Promise<void> {
  await withCloser(async (closer) => {
    const log = loggerOf(flags);
    // A schedule may be the first thing in a store.
    const store = await openStoreOf(flags, closer, { makeRoot: true });
    const { redis: redisUrl, fleet } = flags;
    if (redisUrl !== undefined) {
      for (const warning of await checkRedis(redisUrl, { allowVolatile: flags.allowVolatileRedis })) log.warn(warning);
    }
    const queue = redisUrl === undefined ? null : closer.add(new ControlQueue({ redisUrl, fleet, log }));
    await act(new BackfillDesk({ store, queue, secret: makeScheduleSecret }));
  });
}

async function show(desk: BackfillDesk, flags: Pick<DeskFlags, "json">, name?: string): Promise<void> {
  const views = (await desk.list()).filter((view) => name === undefined || view.name === name);
  if (flags.json) return printJson(name === undefined ? views : views[0]);
  if (views.length === 0) printLine("there are no schedules");
  for (const view of views) printLine(scheduleLine(view));
}
