/** `embedfleet produce`: reads and tokenises parts of a corpus that another machine enqueues. */
import { redisOf } from "../../fleet/open-ports.ts";
import { helpProduce, type HelpSettings } from "../../fleet/help-produce.ts";
import { interruptionOf } from "../interrupt.ts";
import { type LogFlags, loggerOf, printJson, printLine } from "../output.ts";

export interface ProduceFlags extends HelpSettings, LogFlags {
  readonly json: boolean;
}

export async function produce(run: string, flags: ProduceFlags): Promise<void> {
  const { signal, leave } = interruptionOf(run);
  signal.addEventListener("abort", leave, { once: true });
  const { json, ...settings } = flags;
  const log = loggerOf(flags);
  const done = await helpProduce({ ...settings, run, redis: redisOf(flags), log, signal });
  if (json) return printJson(done);
  printLine(`run ${run}: ${done.parts} parts of its corpus were read and tokenised here`);
}
