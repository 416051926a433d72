/** The single place where commands end: what is printed, and the exit code. */
import { FleetError, messageOf } from "../core/errors.ts";
import { visible } from "../core/visible.ts";

const EXIT_FAILED = 1;
const EXIT_USAGE = 2;

/**
 * Prints `error: what, where, why`, and below it the cure of a `FleetError`. Any other error is a defect of the program,
 * whatever the log level: the first five lines of its stack follow.
 * @returns The exit code: 2 for a usage error, else 1.
 */
export function reportFailure(error: unknown): number {
  for (const line of `error: ${messageOf(error)}`.split("\n")) complain(line);
  if (error instanceof FleetError) {
    for (const line of error.cure?.split("\n") ?? []) complain(`  ${line.trim()}`);
    return error.code === "bad_usage" ? EXIT_USAGE : EXIT_FAILED;
  }
  if (error instanceof Error && error.stack !== undefined) error.stack.split("\n").slice(1, 6).forEach(complain);
  return EXIT_FAILED;
}

/** Prints to standard error, escaped: a message names ids and files, and quotes data that could not be read. */
function complain(line: string): void {
  console.error(visible(line));
}
