/** One command line, from its words to its exit code. */
import { CommanderError } from "commander";
import { buildProgram } from "./program.ts";
import { reportFailure } from "./report-failure.ts";

/**
 * Usage errors end with 2; help and version are no errors.
 * @param argv As `process.argv` has it: the command's words begin at index 2.
 * @param onFailure Called with what a command threw, before it is printed.
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
