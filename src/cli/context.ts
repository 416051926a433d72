/** What commands have beside the settings of the fleet: a log and a report. */
import type { Logger } from "pino";
import type { StoreSettings } from "../fleet/context.ts";
import { createLogger } from "../telemetry/log.ts";

export interface LogFlags {
  readonly logLevel: string;
}

export interface StoreFlags extends StoreSettings, LogFlags {}

export function loggerOf(flags: LogFlags): Logger {
  return createLogger(flags.logLevel);
}

/** Reports go to standard output, alone, so that they can be piped. */
export function printJson(value: unknown): void {
  console.log(JSON.stringify(value, null, 2));
}
