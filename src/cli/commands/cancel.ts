/** `embedfleet cancel`: stop a run for good. */
import { cancelRun } from "../../run/cancel-run.ts";
import { readRun } from "../../run/read-plan.ts";
import { loggerOf, printJson, printLine } from "../output.ts";
import { openQueueOf, openStoreOf, withCloser } from "../../fleet/open-ports.ts";
import type { SteerCommand } from "../command-settings.ts";

export async function cancel(run: string, settings: SteerCommand): Promise<void> {
  await withCloser(async (closer) => {
    const store = await openStoreOf(settings, closer);
    const { options } = await readRun(store, run);
    const log = loggerOf(settings);
    const { server, ofModel, queue } = await openQueueOf(settings, options.model.id, closer, log);
    closer.add(server.watch());
    const outcome = await cancelRun({ store, queue, fleet: ofModel.name, run });
    if (settings.json) return printJson({ run, ...outcome });
    printLine(
      `run ${run} ${outcome.isNew ? "is" : "was already"} cancelled; ${outcome.removed} waiting jobs were removed from the queue`,
    );
  });
}
