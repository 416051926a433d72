/** Command-line options and their environment variables, derived from the schemas of the settings. */
import { Argument, InvalidArgumentError, Option } from "commander";
import { z } from "zod";
import { PREFIX } from "../core/child-environment.ts";
import { runIdSchema } from "../core/contracts.ts";
import { scheduleNameSchema } from "../core/schedule.ts";
import { bareSchema, requirement } from "../fleet/check-settings.ts";
import {
  cacheSettings,
  modelSettings,
  planSettings,
  produceSettings,
  reconcileSettings,
  scheduleHostSettings,
} from "../fleet/settings.ts";
import type { SettingInfo } from "../fleet/setting-info.ts";
import { evalCommand, exportCommand, indexCommand, searchCommand } from "./command-settings.ts";
import { userCache, userModels } from "./environment.ts";
import { exportModelCommand, pullCommand } from "./model-settings.ts";
import {
  character,
  condition,
  countOrShare,
  deviceList,
  fraction,
  headList,
  headWeights,
  keptNames,
  nameList,
  numberOf,
  placeList,
  precisionList,
  rankList,
} from "./option-values.ts";
import { placeSettings } from "./shared-settings.ts";

type Read = (text: string) => unknown;

/** Parsers of option texts whose schema does not determine one. */
const READERS = new Map<z.ZodType, Read>([
  [modelSettings.shape.engine, (text) => text],
  [planSettings.shape.heads, headList],
  [indexCommand.shape.heads, headList],
  [exportCommand.shape.heads, headList],
  [planSettings.shape.textField, nameList],
  [planSettings.shape.delimiter, character],
  [planSettings.shape.quote, character],
  [planSettings.shape.escape, character],
  [planSettings.shape.columns, nameList],
  [planSettings.shape.where, condition],
  [planSettings.shape.sample, fraction],
  [planSettings.shape.maxRejects, countOrShare],
  [planSettings.shape.maxDeletes, countOrShare],
  [planSettings.shape.keep, keptNames],
  [produceSettings.shape.inputsBelow, placeList],
  [scheduleHostSettings.shape.scheduleInputs, placeList],
  [scheduleHostSettings.shape.webhookHosts, placeList],
  [placeSettings.shape.device, deviceList],
  [exportModelCommand.shape.precisions, precisionList],
  [pullCommand.shape.precisions, precisionList],
  [exportModelCommand.shape.keepFloat, (text) => text.split(",").map((pattern) => pattern.trim())],
  [searchCommand.shape.weights, headWeights],
  [searchCommand.shape.model, (text) => [text]],
  [evalCommand.shape.run, (text) => [text]],
  [evalCommand.shape.at, rankList],
]);

/** Options that may be repeated; all their values are collected. */
const REPEATED = new Set<z.ZodType>([
  planSettings.shape.textField,
  planSettings.shape.where,
  planSettings.shape.keep,
  produceSettings.shape.inputsBelow,
  scheduleHostSettings.shape.scheduleInputs,
  scheduleHostSettings.shape.webhookHosts,
  searchCommand.shape.model,
  evalCommand.shape.run,
]);

/** Earlier names of flags and variables, kept for existing deployments. Their help is that of the new name. */
const RENAMED = new Map<z.ZodType, string>([[reconcileSettings.shape.reconcileSeconds, "--tend-seconds"]]);

/** An option that sets one setting. */
export class SettingOption extends Option {
  /** The schema of the value; options with the same meaning share it. */
  readonly field: z.ZodType;
  /** Variables that are read when `envVar` is not set. */
  readonly formerVariables: readonly string[];
  readonly #name: string;

  constructor(params: Readonly<{ name: string; field: z.ZodType; flag?: string; byDefault?: unknown }>) {
    const { name, field, flag = `--${kebab(name)}`, byDefault } = params;
    const info = infoOf(field);
    super(info.value === undefined ? flag : `${flag} <${info.value}>`, info.description);
    this.field = field;
    this.#name = name;
    // A switch such as `--no-follow` is a setting of that name, not the opposite of another one.
    this.negate = false;
    this.env(variableOf(flag, info));
    this.formerVariables = info.command === undefined ? [] : unlessTaken(plainVariable(flag));
    if (info.value !== undefined) this.#readBy(READERS.get(field));
    if (byDefault !== undefined) this.default(byDefault, info.byDefault);
    // Without a default value, only the help states the default, in words.
    else if (info.byDefault !== undefined) this.default(undefined, info.byDefault);
  }

  override attributeName(): string {
    return this.#name;
  }

  #readBy(read: Read | undefined): void {
    const bare = bareSchema(this.field);
    if (bare instanceof z.ZodEnum) {
      this.choices(bare.options.map(String));
      return;
    }
    const parse = read ?? (bare instanceof z.ZodNumber ? numberOf : (text: string) => text);
    this.argParser((text: string, before: unknown) => {
      const value = checked(this.field, parse(text));
      const repeats = REPEATED.has(this.field) && Array.isArray(before) && before !== this.defaultValue;
      return repeats ? [...(before as unknown[]), ...(value as unknown[])] : value;
    });
  }
}

function checked(field: z.ZodType, value: unknown): unknown {
  const { success, error } = field.safeParse(value);
  if (success) return value;
  throw new InvalidArgumentError(`It must be ${requirement(field, error)}.`);
}

function infoOf(field: z.ZodType): SettingInfo {
  return z.globalRegistry.get(field) as unknown as SettingInfo;
}

/** Converts `maxTokens` to `max-tokens`. */
function kebab(name: string): string {
  return name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

/** Converts `--max-tokens` to `EMBEDFLEET_MAX_TOKENS`; the variable of a single command's option carries its name. */
function variableOf(flag: string, { variable, command }: SettingInfo): string {
  if (variable !== undefined) return variable;
  return command === undefined ? plainVariable(flag) : plainVariable(`${command}-${flag.slice(2)}`);
}

function plainVariable(words: string): string {
  return PREFIX + words.replace(/^--/, "").replaceAll(/[- ]/g, "_").toUpperCase();
}

/** Variables that meant different things to different commands; each has a name of its own now. */
const AMBIGUOUS = ["HEADS", "KEEP", "RUN", "TO"].map((name) => PREFIX + name);

function unlessTaken(variable: string): string[] {
  return AMBIGUOUS.includes(variable) ? [] : [variable];
}

/**
 * The options of a command.
 * @param env Determines where the user's cache is.
 */
export function optionsOf(settings: z.ZodObject, env: NodeJS.ProcessEnv): Option[] {
  const machine = new Map<unknown, string>([
    [modelSettings.shape.models, userModels(env)],
    [cacheSettings.shape.cacheFolder, userCache(env)],
  ]);
  return Object.entries(settings.shape as Record<string, z.ZodType>).flatMap(([name, field]) => {
    const own: unknown = field instanceof z.ZodDefault ? field.parse(undefined) : undefined;
    const option = new SettingOption({ name, field, byDefault: machine.get(field) ?? own });
    option.makeOptionMandatory(own === undefined && !(field instanceof z.ZodExactOptional));
    const former = RENAMED.get(field);
    return former === undefined ? [option] : [option, new SettingOption({ name, field, flag: former }).hideHelp()];
  });
}

/** @returns A validated schedule name. */
function parseScheduleName(text: string): string {
  return checked(scheduleNameSchema, text) as string;
}

/** @returns A validated run id. */
function parseRunId(text: string): string {
  return checked(runIdSchema, text) as string;
}

export function runArgument(required: boolean): Argument {
  return new Argument(required ? "<run>" : "[run]", "id of the run").argParser(parseRunId);
}

export function outArgument(): Argument {
  return new Argument("<out>", "store of the runs: file:///folder, s3://bucket/prefix or a path");
}

export function scheduleNameArgument(): Argument {
  return new Argument("<name>", "name of the schedule").argParser(parseScheduleName);
}
