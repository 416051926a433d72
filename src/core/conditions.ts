/**
 * The `--where` grammar: `field operator value`, with one of `=`, `!=`, `<`, `<=`, `>`, `>=` and optional white space
 * around the operator. Pure.
 *
 * Two numbers are compared as numbers, anything else by code units; text that looks like a number (as in CSV) counts as
 * one for `<`, `<=`, `>` and `>=` only. Columns of dates and times are compared as points in time, those of decimals
 * exactly. A field that is missing, null, a list or an object equals nothing: only `!=` holds for it.
 */
import type { Condition } from "./selection.ts";
import { FleetError } from "./errors.ts";
import { Decimal, exactText, Moment } from "./exact.ts";

const CONDITION = /^\s*(?<field>[^=!<>]+?)\s*(?<operator>!=|<=|>=|=|<|>)\s*(?<value>.*?)\s*$/s;

/** @throws FleetError `bad_usage` */
export function parseCondition(text: string): Condition {
  const { field, operator, value } = CONDITION.exec(text)?.groups ?? {};
  if (field === undefined || operator === undefined || value === undefined)
    throw badCondition(text, "has no field and operator");
  if (/^[=!<>]/.test(value)) throw badCondition(text, `has the unknown operator ${operator}${value[0]}`);
  if (value === "" && operator !== "=" && operator !== "!=") throw badCondition(text, "has no value to compare with");
  return { field, operator: operator as Condition["operator"], value };
}

function badCondition(text: string, problem: string): FleetError {
  return new FleetError("bad_usage", `the condition ${JSON.stringify(text)} ${problem}`, {
    cure: "write field=value, field!=value, or <, <=, >, >= in between: lang=en, year>=2020",
  });
}

/** @param value The field's value in one document. */
export function holds(condition: Condition, value: unknown): boolean {
  const compared = compare(value, condition);
  if (condition.operator === "!=") return compared !== 0;
  return compared !== null && ORDERS[condition.operator](compared);
}

const ORDERS: Readonly<Record<Exclude<Condition["operator"], "!=">, (compared: number) => boolean>> = {
  "=": (compared) => compared === 0,
  "<": (compared) => compared < 0,
  "<=": (compared) => compared <= 0,
  ">": (compared) => compared > 0,
  ">=": (compared) => compared >= 0,
};

/** Negative, zero or positive, as in a sort comparison; null when the two cannot be compared. */
function compare(value: unknown, { operator, value: typed }: Condition): number | null {
  if (value instanceof Decimal) return compareWith(value, Decimal.parse(typed));
  // A year or a month alone is no date, and is compared as text.
  if (value instanceof Moment) return compareWith(value, Moment.parse(typed)) ?? order(String(value), typed);
  const isEquality = operator === "=" || operator === "!=";
  const other = asNumber(typed);
  if (typeof value === "number" || typeof value === "bigint") {
    return other === null ? null : order(value, other);
  }
  const text =
    value instanceof Date
      ? value.toISOString()
      : typeof value === "boolean"
        ? String(value)
        : (exactText(value) ?? value);
  if (typeof text !== "string") return null;
  const number = isEquality ? null : asNumber(text);
  return number !== null && other !== null ? order(number, other) : order(text, typed);
}

function compareWith<T extends { compare(other: T): number }>(value: T, other: T | null): number | null {
  return other === null ? null : value.compare(other);
}

/** Three-way comparison; null for NaN, for which no order holds. */
function order<T extends number | bigint | string>(a: T, b: T): number | null {
  return a < b ? -1 : a > b ? 1 : a >= b ? 0 : null;
}

/** Number of a text; a bigint for integers that a double would round. */
function asNumber(text: string): number | bigint | null {
  const number = text.trim() === "" ? NaN : Number(text);
  if (Number.isNaN(number)) return null;
  return /^\s*-?\d+\s*$/.test(text) && !Number.isSafeInteger(number) ? BigInt(text.trim()) : number;
}
