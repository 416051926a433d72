/** What a command does when a person or the system asks it to stop, and how its run goes on. */
import { FleetError } from "../core/errors.ts";

/** For a command that can be repeated: it takes its run up where it was. */
export function goingOn(run: string): string {
  return `the same command with --run ${run} continues`;
}

/** Aborted, with the fault that the command is to end with, by SIGINT or SIGTERM; a second one ends it at once. */
export function interruptionOf(run: string): AbortSignal {
  const told = new AbortController();
  const stop = (signal: NodeJS.Signals): void => {
    told.abort(new FleetError("run_incomplete", `stopped by ${signal}`, { cure: goingOn(run) }));
    // A corpus that comes from there may have no end, and nobody reads it any more.
    process.stdin.destroy();
  };
  process.once("SIGINT", stop).once("SIGTERM", stop);
  return told.signal;
}

/** Never resolves. */
export function untilAborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason as Error)));
}
