/** What a command does when a person or the system asks it to stop, and how its run goes on. */
import { constants } from "node:os";
import { FleetError } from "../core/errors.ts";
import { reportFailure, StoppedBySignal } from "./report-failure.ts";

/** How long a command that was told to end waits for servers that do not answer: what it had begun is done again when it is repeated. */
const GOODBYE_MS = 10_000;
/** As shells tell of a process that a signal has ended. */
const EXIT_SIGNAL = 128;

/** For a command that can be repeated: it takes its run up where it was. */
export function goingOn(run: string): string {
  return `the same command with --run ${run} continues`;
}

/** By a signal that asks a command to end. */
export interface Interruption {
  /** Aborted, with the fault that the command is to end with. */
  readonly signal: AbortSignal;
  /** When it was asked to end: ends the process after 10 s, should it still wait for a server by then. */
  readonly leave: () => void;
}

/** What SIGINT or SIGTERM asks of a command on a run; a second one ends it at once. */
export function interruptionOf(run: string): Interruption {
  const told = new AbortController();
  let name: NodeJS.Signals | null = null;
  const stop = (signal: NodeJS.Signals): void => {
    name = signal;
    told.abort(new StoppedBySignal(signal, goingOn(run)));
    // A corpus that comes from there may have no end, and nobody reads it any more.
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

/** Never resolves. */
export function untilAborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason as Error)));
}
