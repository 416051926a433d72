/** The process of one worker. Its parent sends the settings; neither a command line nor the environment carries any. */
import { once } from "node:events";
import { workerProcess } from "./command-settings.ts";
import { workAt } from "./commands/work.ts";
import { reportFailure } from "./report-failure.ts";

async function main(): Promise<number> {
  try {
    const [sent] = (await once(process, "message")) as [unknown];
    const { device, ...settings } = workerProcess.parse(sent);
    await workAt({ device, threads: settings.threads }, settings);
    return 0;
  } catch (error) {
    return reportFailure(error);
  }
}

process.exitCode = await main();
