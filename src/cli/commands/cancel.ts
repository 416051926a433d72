/** `embedfleet cancel`: stop a run for good. */
import { queueName } from "../../adapters/redis/queue-options.ts";
import { cancelRun } from "../../run/cancel-run.ts";
import { readRun } from "../../run/read-plan.ts";
import { loggerOf, printJson, printLine } from "../output.ts";
import { openQueueOf, openStoreOf, watchRedisOf, withCloser } from "../../fleet/open-ports.ts";
import type { ResumeFlags } from "./inspect.ts";

export async function cancel(run: string, flags: ResumeFlags): Promise<void> {
  await withCloser(async (closer) => {
    const store = await openStoreOf(flags, closer);
    const { options } = await readRun(store, run);
    const log = loggerOf(flags);
    const queue = await openQueueOf(flags, options.model.id, closer, log);
    watchRedisOf(flags, closer, log);
    const outcome = await cancelRun({ store, queue, fleet: queueName(flags.fleet, options.model.id), run });
    if (flags.json) return printJson({ run, ...outcome });
    printLine(
      `run ${run} ${outcome.isNew ? "is" : "was already"} cancelled; ${outcome.removed} waiting jobs were taken out of the queue`,
    );
  });
}
