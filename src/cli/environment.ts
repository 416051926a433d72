/** What this process reads from its environment, beside the variables of options: places and secrets. */
import { join } from "node:path";
import type { ScheduleKeyPlaces } from "../control/schedules/schedule-key.ts";
import { PREFIX } from "../core/child-environment.ts";
import { homeFolder } from "../fleet/home-folder.ts";

/** Never an option: command lines are seen by everybody. */
export function hubToken(): string | undefined {
  return process.env["HF_TOKEN"] || undefined;
}

/** The user's cache by the XDG rules. */
export function userCache(env: NodeJS.ProcessEnv): string {
  return join(env["XDG_CACHE_HOME"] || join(homeFolder(), ".cache"), "embedfleet");
}

/** Where pulled models lie, where nothing else is said. */
export function userModels(env: NodeJS.ProcessEnv): string {
  return join(userCache(env), "models");
}

/** Signs what webhooks are told. In the environment alone: a flag would show in lists of processes. */
export function webhookSecret(): string | undefined {
  return process.env[`${PREFIX}WEBHOOK_SECRET`];
}

/** Where the secret is that signs schedules, and tells `control` that they are not someone else's. */
export function scheduleKeyPlaces(): ScheduleKeyPlaces {
  const folder = process.env["XDG_CONFIG_HOME"] || join(homeFolder(), ".config");
  return { secret: process.env[`${PREFIX}SCHEDULE_SECRET`], folder: join(folder, "embedfleet") };
}
