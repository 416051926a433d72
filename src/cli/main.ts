#!/usr/bin/env node
import { CommanderError } from "commander";
import { reportFailure } from "./report-failure.ts";
import { buildProgram } from "./program.ts";

/** Usage errors end with 2; help and version are no errors. */
async function main(argv: readonly string[]): Promise<number> {
  try {
    await buildProgram().parseAsync(argv);
    return 0;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
    return reportFailure(error);
  }
}

process.exitCode = await main(process.argv);
