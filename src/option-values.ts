/** What the values of options may be: from what was typed to what it means, or what it must be. */
import { InvalidArgumentError } from "commander";
import { type Device, parseDevice } from "../models/onnx/device.ts";
import { parseCondition } from "./core/conditions.ts";
import {
  ALL_HEADS,
  type Head,
  headSchema,
  type Limit,
  limitSchema,
  type Precision,
  precisionSchema,
} from "./core/contracts.ts";
import { FleetError } from "./core/errors.ts";
import type { HeadWeights } from "./core/scoring.ts";
import { type Condition, isResultColumn } from "./core/selection.ts";

export function wholeNumber(min: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (Number.isInteger(value) && value >= min) return value;
    throw new InvalidArgumentError(`It must be a whole number of at least ${min}.`);
  };
}

/** `1000` documents, or `10%` of them. */
export function limit(text: string): Limit {
  const parsed = limitSchema.safeParse(/^\d+$/.test(text) ? Number(text) : text);
  if (parsed.success) return parsed.data;
  throw new InvalidArgumentError("It must be a whole number, or a share such as 10%.");
}

/** 0 takes any free port. */
export function portNumber(text: string): number {
  const value = Number(text);
  if (Number.isInteger(value) && value >= 0 && value <= 65_535) return value;
  throw new InvalidArgumentError("It must be a port from 0 to 65535; 0 takes a free one.");
}

export function headList(text: string): Head[] {
  const names = text.split(",").map((name) => name.trim());
  const heads = ALL_HEADS.filter((head) => names.includes(head));
  if (heads.length === new Set(names).size && heads.length > 0) return heads;
  throw new InvalidArgumentError(`It must be some of ${headSchema.options.join(",")}.`);
}

/** Depths of a ranking, ascending. */
export function depthList(text: string): number[] {
  const depths = [...new Set(text.split(",").map(wholeNumber(1)))];
  return depths.toSorted((a, b) => a - b);
}

export function tableName(text: string): string {
  if (/^[A-Za-z][A-Za-z0-9_]{0,62}$/.test(text)) return text;
  throw new InvalidArgumentError("It must be 1 to 63 letters, digits or '_', starting with a letter.");
}

/** An option that may be given several times. */
export function repeated(parse: (text: string) => string): (text: string, before: string[] | undefined) => string[] {
  return (text, before) => [...(before ?? []), parse(text)];
}

/** `0.4,0.2,0.4` in the order of `ALL_HEADS`. */
export function headWeights(text: string): HeadWeights {
  const parts = text.split(",").map((part) => (part.trim() === "" ? Number.NaN : Number(part)));
  const [dense, sparse, colbert] = parts as [number, number, number];
  if (parts.length === 3 && parts.every((part) => part >= 0 && Number.isFinite(part)) && parts.some((part) => part > 0))
    return { dense, sparse, colbert };
  throw new InvalidArgumentError(`It must be three numbers of at least 0, not all 0: ${ALL_HEADS.join(",")}.`);
}

/** Of an option that may be said several times: the values of all times together. */
export function severalTimes<T>(parse: (text: string) => readonly T[]): (text: string) => T[] {
  const values: T[] = [];
  return (text) => {
    values.push(...parse(text));
    return values;
  };
}

export function nameList(text: string): string[] {
  const names = text.split(",").map((name) => name.trim());
  if (names.every((name) => name !== "")) return names;
  throw new InvalidArgumentError("It must be names with commas between them.");
}

/** Places or hosts; empty is none, as an environment variable that is set to nothing says. */
export function placeList(text: string): string[] {
  return text
    .split(",")
    .map((place) => place.trim())
    .filter((place) => place !== "");
}

export function keptNames(text: string): string[] {
  const names = nameList(text);
  const taken = names.find((name) => isResultColumn(name));
  if (taken === undefined) return names;
  throw new InvalidArgumentError(`The output has a column ${taken} of its own.`);
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
  const value = Number(text);
  if (value > 0 && value <= 1) return value;
  throw new InvalidArgumentError("It must be a number above 0 and at most 1.");
}

export function httpUrl(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url !== null && /^https?:$/.test(url.protocol) && url.username === "") return text;
  throw new InvalidArgumentError("It must be an http:// or https:// URL without credentials.");
}

export function deviceList(text: string): (Device | "auto")[] {
  return text.split(",").map((name) => {
    const device = name === "auto" ? name : parseDevice(name);
    if (device !== null) return device;
    throw new InvalidArgumentError("It must be auto, cpu, cuda:N or tensorrt:N, or several with commas.");
  });
}

export function precisionList(text: string): Precision[] {
  const names = text.split(",").map((name) => name.trim());
  const precisions = precisionSchema.options.filter((precision) => names.includes(precision));
  if (precisions.length === new Set(names).size) return precisions;
  throw new InvalidArgumentError(`It must be some of ${precisionSchema.options.join(",")}.`);
}
