/**
 * The `--where` grammar: `field operator value`, with one of `=`, `!=`, `<`, `<=`, `>`, `>=` and optional white space
 * around the operator. Pure.
 *
 * Two numbers are compared as numbers, with all of their digits, anything else by code units; text that looks like a
 * number (as in CSV) counts as one for `<`, `<=`, `>` and `>=` only. Columns of dates and times are compared as points in
 * time. A field that is missing, null, a list or an object equals nothing: only `!=` holds for it.
 */
import type { Condition } from "./selection.ts";
import { FleetError } from "./errors.ts";
import { compareDecimals, Decimal, ExactNumber, exactText, Moment } from "./exact.ts";

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
  // A year or a month alone is no date, and is compared as text.
  if (value instanceof Moment) {
    const moment = Moment.parse(typed);
    return moment === null ? order(String(value), typed) : value.compare(moment);
  }
  const isEquality = operator === "=" || operator === "!=";
  if (isNumber(value)) return orderNumbers(value, typed);
  const text =
    value instanceof Date
      ? value.toISOString()
      : typeof value === "boolean"
        ? String(value)
        : (exactText(value) ?? value);
  if (typeof text !== "string") return null;
  const numbers = isEquality ? null : orderNumbers(text, typed);
  return numbers ?? order(text, typed);
}

type ComparedNumber = number | bigint | Decimal | ExactNumber;

function isNumber(value: unknown): value is ComparedNumber {
  return (
    typeof value === "number" || typeof value === "bigint" || value instanceof Decimal || value instanceof ExactNumber
  );
}

/** Digits that a double always holds. */
const EXACT_DIGITS = 15;

/** Order of two numbers; null if one is not a number. Exact, also for numbers that a double would round. */
function orderNumbers(value: ComparedNumber | string, typed: string): number | null {
  const other = asNumber(typed);
  if (other === null) return null;
  if (typeof value === "number" && typed.length <= EXACT_DIGITS) return order(value, other);
  const exact = compareDecimals(String(value), typed);
  if (exact !== null) return exact;
  const number = typeof value === "string" ? asNumber(value) : Number(value);
  return number === null ? null : order(number, other);
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
