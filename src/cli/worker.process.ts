/** The process of one worker. Its parent sends the settings; neither a command line nor the environment carries any. */
import { once } from "node:events";
import { tellReady, tellStayDown } from "../../workers/supervisor.ts";
import { mayRestart } from "../../workers/verdict.ts";
import { type ErrorCode, FleetError } from "../core/errors.ts";
import { workerProcess } from "./command-settings.ts";
import { workAt } from "./commands/work.ts";
import { reportFailure } from "./report-failure.ts";

/** Faults of the model, which every worker of the parent has: the parent says them, once. */
const OF_MODEL: ReadonlySet<ErrorCode> = new Set(["model_unknown", "model_invalid", "model_unavailable"]);

async function main(): Promise<number> {
  try {
    const [sent] = (await once(process, "message")) as [unknown];
    const { device, ...settings } = workerProcess.parse(sent);
    await workAt({ device, threads: settings.threads }, settings, tellReady);
    return 0;
  } catch (error) {
    return end(error);
  }
}

/** @returns The exit code. */
function end(error: unknown): number {
  if (error instanceof FleetError && OF_MODEL.has(error.code)) {
    tellStayDown(error);
    return 1;
  }
  if (!mayRestart(error)) tellStayDown();
  return reportFailure(error);
}

process.exitCode = await main();
