/** Output of commands: a log and a report. */
import type { Logger } from "pino";
import { visible, visibleLines } from "../core/visible.ts";
import { createLogger } from "../telemetry/log.ts";
import type { LogSettings } from "./shared-settings.ts";

export function loggerOf(settings: LogSettings): Logger {
  return createLogger(settings.logLevel);
}

/** Prints a report as JSON; standard output carries nothing else, so that it can be piped. */
export function printJson(value: unknown): void {
  console.log(visibleLines(JSON.stringify(value, null, 2)));
}

/** Prints one report line, escaped: ids, names and messages come from data, and a terminal must not obey them. */
export function printLine(line = ""): void {
  console.log(visible(line));
}
