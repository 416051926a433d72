/** A command whose options can also be set by environment variables; a switch takes the value of its variable. */
import { Command, InvalidArgumentError, type Option } from "commander";
import { FleetError } from "../core/errors.ts";
import { SettingOption } from "./options.ts";

export class FleetCommand extends Command {
  readonly #env: NodeJS.ProcessEnv;

  constructor(name: string, env: NodeJS.ProcessEnv) {
    super(name);
    this.#env = env;
    this.configureHelp({ optionDescription: describeOption });
  }

  override createCommand(name: string): FleetCommand {
    return new FleetCommand(name, this.#env);
  }

  /**
   * Replaces commander's own method, which is called after the command line has been parsed: that one turns a switch
   * on whatever its variable says, reads only the environment of the process, and requires no cure.
   */
  protected _parseOptionsEnv(): void {
    for (const option of this.options) {
      if (!(option instanceof SettingOption)) continue;
      const name = option.attributeName();
      if (!["default", undefined].includes(this.getOptionValueSource(name))) continue;
      const variables = [option.envVar!, ...option.formerVariables];
      const variable = variables.find((each) => this.#env[each] !== undefined);
      if (variable === undefined) continue;
      this.setOptionValueWithSource(name, valueOf(option, variable, this.#env[variable]!), "env");
    }
  }
}

/** @throws FleetError `bad_usage`, which names the variable */
function valueOf(option: SettingOption, variable: string, text: string): unknown {
  if (option.isBoolean()) return switchOf(option, variable, text);
  if (option.negate) return !switchOf(option, variable, text);
  try {
    return option.parseArg!(text, undefined);
  } catch (error) {
    if (!(error instanceof InvalidArgumentError)) throw error;
    throw new FleetError("bad_usage", `the environment variable ${variable} is ${JSON.stringify(text)}`, {
      cure: `it sets ${option.long}. ${error.message} Correct it, or unset it`,
      cause: error,
    });
  }
}

function switchOf(option: SettingOption, variable: string, text: string): boolean {
  if (/^(?:1|true|yes|on)$/i.test(text)) return true;
  if (/^(?:|0|false|no|off)$/i.test(text)) return false;
  throw new FleetError("bad_usage", `the environment variable ${variable} is ${JSON.stringify(text)}`, {
    cure: `it sets the switch ${option.long}: set true or false, or unset it`,
  });
}

/** Describes an option as commander does, with defaults in words, and without a switch's default, which its absence shows. */
function describeOption(option: Option): string {
  const { description, argChoices, defaultValue, defaultValueDescription, mandatory, envVar } = option;
  const byDefault = defaultValueDescription ?? (defaultValue === undefined ? undefined : String(defaultValue));
  const notes = [
    ...(argChoices === undefined ? [] : [`choices: ${argChoices.join(", ")}`]),
    ...(mandatory ? ["required"] : []),
    ...(byDefault === undefined || option.isBoolean() || option.negate ? [] : [`default: ${byDefault}`]),
    ...(envVar === undefined ? [] : [`env: ${envVar}`]),
  ];
  return notes.length === 0 ? description : `${description} (${notes.join("; ")})`;
}
