/** The places and secrets that this process reads from its environment, besides the options' variables. */
import { join } from "node:path";
import type { ScheduleKeyPlaces } from "../control/schedules/schedule-key.ts";
import { PREFIX } from "../core/child-environment.ts";
import { homeFolder } from "../fleet/home-folder.ts";

/** Hugging Face token (HF_TOKEN). It is never an option, because command lines are visible to every user. */
export function hubToken(): string | undefined {
  return process.env["HF_TOKEN"] || undefined;
}

/** The user's cache folder by the XDG rules. */
export function userCache(env: NodeJS.ProcessEnv): string {
  return join(env["XDG_CACHE_HOME"] || join(homeFolder(), ".cache"), "embedfleet");
}

/** Default folder of pulled models. */
export function userModels(env: NodeJS.ProcessEnv): string {
  return join(userCache(env), "models");
}

/** Secret that signs webhooks. It comes only from the environment: a flag would show in lists of processes. */
export function webhookSecret(): string | undefined {
  return process.env[`${PREFIX}WEBHOOK_SECRET`];
}

/** Sources of the secret that signs schedules, by which `control` tells them from anyone else's. */
export function scheduleKeyPlaces(): ScheduleKeyPlaces {
  const folder = process.env["XDG_CONFIG_HOME"] || join(homeFolder(), ".config");
  return { secret: process.env[`${PREFIX}SCHEDULE_SECRET`], folder: join(folder, "embedfleet") };
}
