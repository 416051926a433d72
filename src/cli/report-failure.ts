/** One place where commands end: what to print, and the exit code. */
import { mayRestart } from "../../workers/verdict.ts";
import { tellStayDown } from "../../workers/supervisor.ts";
import { FleetError, messageOf } from "../core/errors.ts";
import { visible } from "../core/visible.ts";

const EXIT_FAILED = 1;
const EXIT_USAGE = 2;

/** Prints `error: what, where, why` and the cure below it. Stack traces are for `--log-level debug`. */
export function reportFailure(error: unknown): number {
  if (!mayRestart(error)) tellStayDown();
  for (const line of `error: ${messageOf(error)}`.split("\n")) complain(line);
  if (error instanceof FleetError) {
    for (const line of error.cure?.split("\n") ?? []) complain(`  ${line.trim()}`);
    return error.code === "bad_usage" ? EXIT_USAGE : EXIT_FAILED;
  }
  if (error instanceof Error && error.stack !== undefined) error.stack.split("\n").slice(1, 6).forEach(complain);
  return EXIT_FAILED;
}

/** A message names ids and files, and quotes what it could not read. */
function complain(line: string): void {
  console.error(visible(line));
}
