/** One logger for the process: JSON lines on stderr, readable in a terminal. */
import { type Logger, pino } from "pino";
import pretty from "pino-pretty";
import { FleetError } from "../core/errors.ts";

/** Fields that may hold a secret. URLs are redacted where they are made. */
const REDACTED = ["redis", "redisUrl", "credentials", "secretAccessKey", "password", "token"];

export function createLogger(level: string): Logger {
  const redact = { paths: REDACTED, censor: "***" };
  const options = { level, base: null, redact, serializers: { err: describeError } };
  if (!process.stderr.isTTY) return pino(options, pino.destination({ fd: 2, sync: true }));
  return pino(options, pretty({ destination: 2, sync: true, ignore: "pid,hostname", translateTime: "SYS:HH:MM:ss" }));
}

/** An error's own words. What libraries hang on it may hold a password: the command that failed, its request, its headers. */
function describeError(error: unknown): unknown {
  if (!(error instanceof Error)) return { message: String(error) };
  const { name, message, stack } = error;
  const code = "code" in error && ["string", "number"].includes(typeof error.code) ? { code: error.code } : {};
  const cure = error instanceof FleetError && error.cure !== undefined ? { cure: error.cure } : {};
  const cause = error.cause === undefined ? {} : { cause: describeError(error.cause) };
  return { type: name, message, ...code, ...cure, stack, ...cause };
}
