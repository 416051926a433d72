/** Handling of requests to stop, by a person or the system, and how the stopped run is continued. */
import { constants } from "node:os";
import { FleetError } from "../core/errors.ts";
import { reportFailure, StoppedBySignal } from "./report-failure.ts";

/** Limit on waiting for unresponsive servers after a stop request; unfinished work is redone by the next attempt. */
const GOODBYE_MS = 10_000;
/** Offset that shells add to a signal's number for the exit code of a process that it ended. */
const EXIT_SIGNAL = 128;

/** The cure for a command that can be repeated: repeating it resumes its run. */
export function goingOn(run: string): string {
  return `the same command with --run ${run} continues`;
}

/** A stop requested by a signal. */
export interface Interruption {
  /** Aborted with the error that the command is to end with. */
  readonly signal: AbortSignal;
  /** Called when a stop was requested: exits after 10 s if the command still waits for a server. */
  readonly leave: () => void;
}

/** Handles SIGINT and SIGTERM for a command on a run; a second signal ends it at once. */
export function interruptionOf(run: string): Interruption {
  const told = new AbortController();
  let name: NodeJS.Signals | null = null;
  const stop = (signal: NodeJS.Signals): void => {
    name = signal;
    told.abort(new StoppedBySignal(signal, goingOn(run)));
    // A corpus on standard input may have no end, and nothing reads it from here on.
    process.stdin.destroy();
  };
  process.once("SIGINT", stop).once("SIGTERM", stop);
  return { signal: told.signal, leave: () => name !== null && leaveAfter(name, goingOn(run)) };
}

function leaveAfter(name: NodeJS.Signals, cure: string): void {
  const seconds = GOODBYE_MS / 1000;
  const fault = new FleetError(
    "run_incomplete",
    `no server answered for ${seconds} s after ${name}: the command ends`,
    {
      cure,
    },
  );
  setTimeout(() => {
    reportFailure(fault);
    process.exit(EXIT_SIGNAL + constants.signals[name]);
  }, GOODBYE_MS).unref();
}

/** A promise that rejects when the signal is aborted, and never resolves. */
export function untilAborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason as Error)));
}
