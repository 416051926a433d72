/** Output of commands: a log and a report. */
import type { Logger } from "pino";
import { visible, visibleLines } from "../core/visible.ts";
import { createLogger } from "../telemetry/log.ts";
import type { LogSettings } from "./shared-settings.ts";

export function loggerOf(settings: LogSettings): Logger {
  return createLogger(settings.logLevel, settings.logFormat);
}

let hasPrintedJson = false;

/** Prints a report as JSON; standard output carries nothing else, so that it can be piped. */
export function printJson(value: unknown): void {
  hasPrintedJson = true;
  console.log(visibleLines(JSON.stringify(value, null, 2)));
}

/** Prints one report line, escaped: ids, names and messages come from data, and a terminal must not obey them. */
export function printLine(line = ""): void {
  console.log(visible(line));
}

/** The fault that a command with `--json` ends with, unless its report was printed: one JSON object is promised. */
export function printJsonFault({
  code,
  message,
  cure,
}: Readonly<{ code: string; message: string; cure?: string | undefined }>): void {
  if (!hasPrintedJson) printJson({ error: { code, message, ...(cure !== undefined && { cure }) } });
}
