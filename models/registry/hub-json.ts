/** Reads the configurations of a folder in the hub's layout: `null` is the same as a missing field, as for their authors. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { FleetError, messageOf } from "../../src/core/errors.ts";
import { readText } from "./plain-file.ts";

/** An object of a configuration, and where it is, for messages. */
export interface Config {
  readonly path: string;
  readonly values: Readonly<Record<string, unknown>>;
}

/** @throws FleetError `model_invalid` */
export function unusable(path: string, reason: string, cause?: unknown): FleetError {
  return new FleetError("model_invalid", `${path} cannot be used: ${reason}`, {
    cure: "pull the whole repository of the model, or add a manifest.json to its folder: see docs/models.md",
    cause,
  });
}

/** A file that is as its authors want it, and asks for what is not computed here. */
export function unsupported(path: string, reason: string): FleetError {
  return new FleetError("model_invalid", `${path} cannot be used: ${reason}`, {
    cure: "choose another model: docs/models.md has a table of what works",
  });
}

/** @throws FleetError `model_invalid` for a file that is missing, or holds no object. */
export function readConfig(folder: string, name: string): Config {
  const path = join(folder, name);
  const values = readJson(path);
  if (!isObject(values)) throw unusable(path, "it is not a JSON object");
  return { path, values };
}

/** A missing file is empty. */
export function readOptional(folder: string, name: string): Config {
  const path = join(folder, name);
  return existsSync(path) ? readConfig(folder, name) : { path, values: {} };
}

export function readJson(path: string): unknown {
  try {
    return JSON.parse(readText(path));
  } catch (error) {
    throw unusable(path, messageOf(error), error);
  }
}

/** Largest number where nothing else is known. */
const MOST = 2 ** 31 - 1;

/** The first of the names that has a value. @returns Null for none. */
export function integerOf(config: Config, names: readonly string[], least = 0, most = MOST): number | null {
  const [name, value] = found(config, names);
  if (value === null) return null;
  if (Number.isSafeInteger(value) && (value as number) >= least && (value as number) <= most) return value as number;
  throw wrong(config, name, value, `a whole number from ${least} to ${most}`);
}

export function textOf(config: Config, name: string): string | null {
  const [, value] = found(config, [name]);
  if (value === null || typeof value === "string") return value;
  throw wrong(config, name, value, "a text");
}

export function flagOf(config: Config, name: string): boolean | null {
  const [, value] = found(config, [name]);
  if (value === null || typeof value === "boolean") return value;
  throw wrong(config, name, value, "true or false");
}

export function objectOf(config: Config, name: string): Config | null {
  const [, value] = found(config, [name]);
  if (value === null) return null;
  if (isObject(value)) return { path: `${config.path}: ${name}`, values: value };
  throw wrong(config, name, value, "an object");
}

/** One text or several. */
export function textsOf(config: Config, name: string): string[] {
  const [, value] = found(config, [name]);
  if (value === null) return [];
  const list: unknown[] = Array.isArray(value) ? value : [value];
  return list.map((each) => {
    if (typeof each === "string") return each;
    throw wrong(config, name, value, "a text or a list of texts");
  });
}

/** One id or several; a negative one stands for none. */
export function idsOf(config: Config, name: string): number[] {
  const [, value] = found(config, [name]);
  if (value === null) return [];
  const list: unknown[] = Array.isArray(value) ? value : [value];
  const ids = list.filter((each) => each !== null);
  if (!ids.every((each) => Number.isSafeInteger(each)))
    throw wrong(config, name, value, "a token's id or a list of ids");
  return (ids as number[]).filter((id) => id >= 0);
}

function found({ values }: Config, names: readonly string[]): [name: string, value: unknown] {
  const name = names.find((each) => Object.hasOwn(values, each) && values[each] != null);
  return name === undefined ? [names[0]!, null] : [name, values[name]];
}

function wrong({ path }: Config, name: string, value: unknown, expected: string): FleetError {
  const shown = JSON.stringify(value).slice(0, 60);
  return unusable(path, `${name} is ${shown}; it must be ${expected}`);
}

export function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
