/** Runs one command line and returns its exit code. */
import { type Command, CommanderError } from "commander";
import { buildProgram } from "./program.ts";
import { FleetError, messageOf } from "../core/errors.ts";
import { printJsonFault } from "./output.ts";
import { reportFailure } from "./report-failure.ts";

/**
 * Usage errors exit with 2; help and version are not errors.
 * @param argv As in `process.argv`: the command's words begin at index 2.
 * @param onFailure Called with the error that a command threw, before it is printed.
 * @returns The exit code of the process.
 */
export async function runCommand(argv: readonly string[], onFailure?: (error: unknown) => void): Promise<number> {
  const program = buildProgram();
  try {
    await program.parseAsync(argv);
    return 0;
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return 0;
    if (wantsJson(program, argv)) printJsonFault(faultOf(error));
    // Commander has printed its own.
    if (error instanceof CommanderError) return 2;
    onFailure?.(error);
    return reportFailure(error);
  }
}

/** By the flag, which may not have been read yet, or by its variable. */
function wantsJson(program: Command, argv: readonly string[]): boolean {
  return argv.includes("--json") || leavesOf(program).some((command) => command.getOptionValue("json") === true);
}

function leavesOf(command: Command): Command[] {
  return command.commands.length === 0 ? [command] : command.commands.flatMap(leavesOf);
}

function faultOf(error: unknown): Parameters<typeof printJsonFault>[0] {
  if (error instanceof FleetError) return error;
  if (error instanceof CommanderError) return { code: "bad_usage", message: error.message.replace(/^error: /, "") };
  return { code: "failed", message: messageOf(error) };
}
