/** `embedfleet cancel`: stop a run for good. */
import { createInterface } from "node:readline/promises";
import { FleetError } from "../../core/errors.ts";
import { cancelRun } from "../../run/cancel-run.ts";
import { readRun } from "../../run/read-plan.ts";
import { loggerOf, printJson, printLine } from "../output.ts";
import { openQueueOf, openStoreOf, withCloser } from "../../fleet/open-ports.ts";
import type { CancelCommand } from "../command-settings.ts";

export async function cancel(run: string, settings: CancelCommand): Promise<void> {
  await withCloser(async (closer) => {
    const store = await openStoreOf(settings, closer);
    const { options } = await readRun(store, run);
    if (!settings.yes) await confirm(run);
    const log = loggerOf(settings);
    const { server, ofModel, queue } = await openQueueOf(settings, { store, model: options.model.id }, closer, log);
    closer.add(server.watch());
    const outcome = await cancelRun({ store, queue, fleet: ofModel.name, run });
    if (settings.json) return printJson({ run, ...outcome });
    printLine(
      `run ${run} ${outcome.isNew ? "is" : "was already"} cancelled; ${outcome.removed} waiting jobs were removed from the queue`,
    );
  });
}

/** @throws FleetError `bad_usage` when the answer is not yes, or there is no terminal to ask. */
async function confirm(run: string): Promise<void> {
  if (!process.stdin.isTTY || !process.stderr.isTTY)
    throw new FleetError("bad_usage", `run ${run} would be cancelled for good, and there is no terminal to ask`, {
      cure: "confirm with --yes",
    });
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  const answer = await terminal.question(
    `Cancel run ${run} for good? Its results are kept, and it cannot be continued. [y/N] `,
  );
  terminal.close();
  if (/^y(?:es)?$/i.test(answer.trim())) return;
  throw new FleetError("bad_usage", `run ${run} is not cancelled`);
}
