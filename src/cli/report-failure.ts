/** The single place where commands end: what is printed, and the exit code. */
import { constants } from "node:os";
import { FleetError, messageOf } from "../core/errors.ts";
import { visible } from "../core/visible.ts";

/** As shells report a process that a signal has ended. */
const EXIT_SIGNAL = 128;
const EXIT_FAILED = 1;
const EXIT_USAGE = 2;

/** A command that a person or the system has stopped, and that can be repeated. */
export class StoppedBySignal extends FleetError {
  readonly signal: NodeJS.Signals;

  constructor(signal: NodeJS.Signals, cure: string) {
    super("run_incomplete", `stopped by ${signal}`, { cure });
    this.signal = signal;
  }
}

/**
 * Prints `error: what, where, why`, and below it the cure of a `FleetError`. Any other error is a defect of the program,
 * whatever the log level: the first five lines of its stack follow.
 * @returns The exit code: 2 for a usage error, 130 and 143 for a command that SIGINT or SIGTERM stopped, else 1.
 */
export function reportFailure(error: unknown): number {
  for (const line of `error: ${messageOf(error)}`.split("\n")) complain(line);
  if (error instanceof FleetError) {
    for (const line of error.cure?.split("\n") ?? []) complain(`  ${line.trim()}`);
    if (error instanceof StoppedBySignal) return EXIT_SIGNAL + constants.signals[error.signal];
    return error.code === "bad_usage" ? EXIT_USAGE : EXIT_FAILED;
  }
  if (error instanceof Error && error.stack !== undefined) error.stack.split("\n").slice(1, 6).forEach(complain);
  return EXIT_FAILED;
}

/** Prints to standard error, escaped: a message names ids and files, and quotes data that could not be read. */
function complain(line: string): void {
  console.error(visible(line));
}
