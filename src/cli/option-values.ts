/** Parsers from an option's text to its value; the schemas check the value. */
import { InvalidArgumentError } from "commander";
import { EXPORT_PRECISIONS } from "../../models/export/run-exporter.ts";
import { type DeviceChoice, parseDevice } from "../core/device-name.ts";
import { parseCondition } from "../core/conditions.ts";
import { ALL_HEADS, type Head, headSchema, type Precision } from "../core/contracts.ts";
import { FleetError } from "../core/errors.ts";
import type { HeadWeights } from "../core/scoring.ts";
import { type Condition, isResultColumn } from "../core/selection.ts";

/** NaN for text that is not a number, including an empty text. */
export function numberOf(text: string): number {
  return text.trim() === "" ? Number.NaN : Number(text);
}

/** `1000` as a number, or `10%` as text. */
export function countOrShare(text: string): number | string {
  return /^\d+$/.test(text.trim()) ? Number(text) : text.trim();
}

/** A character, also as `\t` or by its code: `\x01`. */
export function character(text: string): string {
  if (text === "\\t") return "\t";
  const code = /^\\x(?<hex>[0-9a-f]{2})$/i.exec(text)?.groups?.["hex"];
  return code === undefined ? text : String.fromCharCode(Number.parseInt(code, 16));
}

export function headList(text: string): Head[] {
  return someOf(headSchema.options, text);
}

export function precisionList(text: string): Precision[] {
  return someOf(EXPORT_PRECISIONS, text);
}

/** A subset of `choices`, in their order. */
function someOf<T extends string>(choices: readonly T[], text: string): T[] {
  const names = splitList(text);
  const chosen = choices.filter((choice) => names.includes(choice));
  if (chosen.length === new Set(names).size) return chosen;
  throw new InvalidArgumentError(`It must be some of ${choices.join(",")}.`);
}

/** Ranks, in ascending order. */
export function rankList(text: string): number[] {
  const ranks = [...new Set(text.split(",").map(numberOf))];
  if (ranks.every((rank) => Number.isInteger(rank) && rank >= 1)) return ranks.toSorted((a, b) => a - b);
  throw new InvalidArgumentError("It must be whole numbers of at least 1, separated by commas.");
}

/** Weights in the order of `ALL_HEADS`, such as `0.4,0.2,0.4`. */
export function headWeights(text: string): HeadWeights {
  const parts = text.split(",").map(numberOf);
  const [dense, sparse, colbert] = parts as [number, number, number];
  if (parts.length === 3 && parts.every((part) => part >= 0 && Number.isFinite(part)) && parts.some((part) => part > 0))
    return { dense, sparse, colbert };
  throw new InvalidArgumentError(`It must be three numbers of at least 0, not all 0: ${ALL_HEADS.join(",")}.`);
}

function splitList(text: string): string[] {
  return text.split(",").map((name) => name.trim());
}

export function nameList(text: string): string[] {
  const names = splitList(text);
  if (names.every((name) => name !== "")) return names;
  throw new InvalidArgumentError("It must be one or more names, separated by commas.");
}

/** Places or hosts; an empty text gives an empty list. */
export function placeList(text: string): string[] {
  return splitList(text).filter((place) => place !== "");
}

export function keptNames(text: string): string[] {
  const names = nameList(text);
  const taken = names.find((name) => isResultColumn(name));
  if (taken === undefined) return names;
  throw new InvalidArgumentError(`It must not name ${taken}: the output has a column of that name.`);
}

export function condition(text: string): Condition[] {
  try {
    return [parseCondition(text)];
  } catch (error) {
    if (error instanceof FleetError) throw new InvalidArgumentError(`${error.message}: ${error.cure}.`);
    throw error;
  }
}

export function fraction(text: string): number {
  const value = numberOf(text);
  if (value > 0 && value <= 1) return value;
  throw new InvalidArgumentError("It must be a number above 0 and at most 1.");
}

export function deviceList(text: string): DeviceChoice[] {
  return text.split(",").map((name) => {
    const device = name === "auto" ? name : parseDevice(name);
    if (device !== null) return device;
    throw new InvalidArgumentError("It must be auto, cpu, cuda:N or tensorrt:N, or several separated by commas.");
  });
}
