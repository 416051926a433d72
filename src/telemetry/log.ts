/** Logger of the process, on stderr: JSON lines, or text for people. */
import { type Logger, pino } from "pino";
import pretty from "pino-pretty";
import { FleetError } from "../core/errors.ts";
import { visible, visibleLines } from "../core/visible.ts";

/** Fields that may hold a secret. URLs are redacted by their sources. */
const REDACTED = ["redis", "redisUrl", "credentials", "secretAccessKey", "password", "token"];

/** - `json`: one object a line. - `pretty`: text for people. */
export type LogFormat = "json" | "pretty";

/** @param format By default `pretty` in a terminal and `json` elsewhere. */
export function createLogger(level: string, format: LogFormat = process.stderr.isTTY ? "pretty" : "json"): Logger {
  const redact = { paths: REDACTED, censor: "***" };
  const options = { level, base: null, redact, serializers: { err: describeError } };
  if (format === "json") return pino(options, before(pino.destination({ fd: 2, sync: true }), visibleLines));
  const forPeople = pretty({
    destination: 2,
    sync: true,
    ignore: "pid,hostname",
    translateTime: "SYS:HH:MM:ss",
    // By default standard output decides, which may be another terminal or none.
    ...(!process.stderr.isTTY && { colorize: false }),
  });
  return pino(options, before(forPeople, visibleRecord));
}

/** A destination whose lines are transformed before they are written. */
function before(
  destination: { write(line: string): unknown },
  change: (line: string) => string,
): { write(line: string): void } {
  return { write: (line) => void destination.write(change(line)) };
}

/** A log line with texts that are safe for a terminal: pino-pretty decodes the escapes of JSON. */
export function visibleRecord(line: string): string {
  const record = JSON.parse(line, (name, value: unknown) => {
    if (typeof value !== "string") return value;
    return name === "stack" ? visibleLines(value) : visible(value);
  }) as unknown;
  return `${JSON.stringify(record)}\n`;
}

/** Message and code of an error. Other properties from libraries may hold a password: the failed command, its request, its headers. */
function describeError(error: unknown): unknown {
  if (!(error instanceof Error)) return { message: String(error) };
  const { name, message, stack } = error;
  const code = "code" in error && ["string", "number"].includes(typeof error.code) ? { code: error.code } : {};
  const cure = error instanceof FleetError && error.cure !== undefined ? { cure: error.cure } : {};
  const cause = error.cause === undefined ? {} : { cause: describeError(error.cause) };
  return { type: name, message, ...code, ...cure, stack, ...cause };
}
