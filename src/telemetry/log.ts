/** One logger for the process: JSON lines on stderr, readable in a terminal. */
import { type Logger, pino } from "pino";
import pretty from "pino-pretty";

/** Fields that may hold a secret. URLs are redacted where they are made. */
const REDACTED = ["redis", "redisUrl", "credentials", "secretAccessKey", "password", "token"];

export function createLogger(level: string): Logger {
  const options = { level, base: null, redact: { paths: REDACTED, censor: "***" } };
  if (!process.stderr.isTTY) return pino(options, pino.destination({ fd: 2, sync: true }));
  return pino(options, pretty({ destination: 2, sync: true, ignore: "pid,hostname", translateTime: "SYS:HH:MM:ss" }));
}
