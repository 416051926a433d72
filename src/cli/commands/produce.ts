/** `embedfleet produce`: reads and tokenises parts of a corpus that another machine enqueues. */
import { redisOf } from "../../fleet/open-ports.ts";
import { helpProduce } from "../../fleet/help-produce.ts";
import type { ProduceCommand } from "../command-settings.ts";
import { interruptionOf } from "../interrupt.ts";
import { loggerOf, printJson, printLine } from "../output.ts";

export async function produce(run: string, settings: ProduceCommand): Promise<void> {
  const { signal, leave } = interruptionOf(run);
  signal.addEventListener("abort", leave, { once: true });
  const log = loggerOf(settings);
  const done = await helpProduce({ ...settings, run, redis: redisOf(settings), log, signal });
  if (settings.json) return printJson(done);
  printLine(`run ${run}: ${done.parts} parts of its corpus were read and tokenised on this machine`);
}
