/** Runs one command line and returns its exit code. */
import { CommanderError } from "commander";
import { buildProgram } from "./program.ts";
import { reportFailure } from "./report-failure.ts";

/**
 * Usage errors exit with 2; help and version are not errors.
 * @param argv As in `process.argv`: the command's words begin at index 2.
 * @param onFailure Called with the error that a command threw, before it is printed.
 * @returns The exit code of the process.
 */
export async function runCommand(argv: readonly string[], onFailure?: (error: unknown) => void): Promise<number> {
  try {
    await buildProgram().parseAsync(argv);
    return 0;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
    onFailure?.(error);
    return reportFailure(error);
  }
}
