/** `embedfleet produce`: reads and tokenises parts of a corpus that another machine enqueues. */
import { redisOf } from "../../fleet/open-ports.ts";
import { helpProduce, type HelpSettings } from "../../fleet/help-produce.ts";
import { type LogFlags, loggerOf, printJson, printLine } from "../output.ts";

export interface ProduceFlags extends HelpSettings, LogFlags {
  readonly json: boolean;
}

export async function produce(run: string, flags: ProduceFlags): Promise<void> {
  const stopping = new AbortController();
  const stop = (): void => stopping.abort();
  process.once("SIGTERM", stop).once("SIGINT", stop);
  const { json, ...settings } = flags;
  const log = loggerOf(flags);
  const done = await helpProduce({ ...settings, run, redis: redisOf(flags), log, signal: stopping.signal });
  if (json) return printJson(done);
  printLine(`run ${run}: ${done.parts} parts of its corpus were read and tokenised here`);
}
