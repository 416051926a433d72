/** What is not said is as on the command line, so that the two never differ. The environment is not read. */
import { OPTIONS } from "../config.ts";

export type OptionName = keyof typeof OPTIONS;

/** @param names The options that have defaults; their names are those of the settings. */
export function withDefaults<Settings>(given: Partial<Settings>, names: readonly OptionName[]): Settings {
  const defaults = names.map((name) => [name, OPTIONS[name]().defaultValue as unknown]);
  const said = Object.entries(given).filter(([, value]) => value !== undefined);
  return Object.fromEntries([...defaults, ...said]) as Settings;
}
