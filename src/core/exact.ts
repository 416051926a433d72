/**
 * Numbers and times that JavaScript's own types would round: decimals, and points in time with a precision of their
 * own. Both have an exact text, and are compared exactly. Pure.
 */

const NUMBER = /^\s*(?<sign>[-+]?)(?<whole>\d*)(?:\.(?<fraction>\d*))?(?:[eE](?<exponent>[-+]?\d+))?\s*$/;
const SECOND_NANOSECONDS = 1_000_000_000;
const DAY_MILLISECONDS = 86_400_000;
const MIDNIGHT = "T00:00:00.000Z";
/** By the number of digits of a fraction of a second. */
const TICKS_PER_DAY = Array.from({ length: 10 }, (_, digits) => 86_400n * 10n ** BigInt(digits));
const TIME =
  /^\s*(?<date>[-+]?\d{4,6}-\d\d-\d\d)(?:[T ](?<minute>\d\d:\d\d)(?::(?<second>\d\d)(?:\.(?<fraction>\d{1,9}))?)?\s*(?<zone>Z|[-+]\d\d:?\d\d)?)?\s*$/i;

/** A decimal number: an integer divided by a power of ten. */
export class Decimal {
  readonly #unscaled: bigint;
  readonly #scale: number;

  /** @param scale Number of digits behind the point; a negative one multiplies. */
  constructor(unscaled: bigint, scale: number) {
    this.#unscaled = scale < 0 ? unscaled * 10n ** BigInt(-scale) : unscaled;
    this.#scale = Math.max(0, scale);
  }

  /** The exact text, with all digits of the scale: 19.90. */
  toString(): string {
    if (this.#scale === 0) return String(this.#unscaled);
    const isNegative = this.#unscaled < 0n;
    const digits = String(isNegative ? -this.#unscaled : this.#unscaled).padStart(this.#scale + 1, "0");
    return `${isNegative ? "-" : ""}${digits.slice(0, -this.#scale)}.${digits.slice(-this.#scale)}`;
  }
}

/** A number by its decimal text, exactly as it was written. */
export class ExactNumber {
  /** As in JSON: `1212092628029698049`, `19.90`, `-1e400`. */
  readonly text: string;

  constructor(text: string) {
    this.text = text;
  }

  toString(): string {
    return this.text;
  }
}

/** A decimal text taken apart. */
interface Parts {
  readonly isNegative: boolean;
  /** Significant digits without zeros at either end; empty for zero. */
  readonly digits: string;
  /** Place of the first digit: 0 for 0.1 to 0.9, 1 for 1 to 9. */
  readonly place: number;
}

function partsOf(text: string): Parts | null {
  const { sign, whole = "", fraction = "", exponent = "0" } = NUMBER.exec(text)?.groups ?? {};
  if (sign === undefined || whole + fraction === "") return null;
  const all = whole + fraction;
  const start = all.search(/[1-9]/);
  if (start === -1) return { isNegative: false, digits: "", place: 0 };
  const place = whole.length - start + Number(exponent);
  return { isNegative: sign === "-", digits: all.slice(start).replace(/0+$/, ""), place };
}

/** Three-way comparison of two decimal texts by their exact values; null if one is no number. */
export function compareDecimals(a: string, b: string): number | null {
  const [one, other] = [partsOf(a), partsOf(b)];
  if (one === null || other === null) return null;
  const signs = signOf(one) - signOf(other);
  if (signs !== 0 || one.digits === "") return signs;
  const places = one.place - other.place;
  const sizes = places !== 0 ? places : one.digits < other.digits ? -1 : one.digits > other.digits ? 1 : 0;
  return one.isNegative ? -sizes : sizes;
}

function signOf({ isNegative, digits }: Parts): number {
  return digits === "" ? 0 : isNegative ? -1 : 1;
}

/** A date, or a date with a time of day, by a clock of no zone or in UTC. */
export class Moment {
  /** Days since 1970-01-01. */
  readonly #day: number;
  /** Nanoseconds since the beginning of the day. */
  readonly #time: number;
  readonly #digits: number | null;
  readonly #isZoned: boolean;

  private constructor(day: number, time: number, digits: number | null, isZoned: boolean) {
    this.#day = day;
    this.#time = time;
    this.#digits = digits;
    this.#isZoned = isZoned;
  }

  static ofDays(days: number): Moment {
    return new Moment(days, 0, null, false);
  }

  /**
   * @param ticks Number of units since 1970-01-01T00:00.
   * @param digits Digits of the fraction of a second that make the unit: 0, 3, 6 or 9.
   * @param isZoned Whether it is a point in time, written in UTC with a `Z`.
   */
  static ofTicks(ticks: bigint, digits: number, isZoned: boolean): Moment {
    const perDay = TICKS_PER_DAY[digits]!;
    const rest = ticks % perDay;
    const day = Number(ticks / perDay);
    const time = Number(rest) * 10 ** (9 - digits);
    return rest < 0n
      ? new Moment(day - 1, time + DAY_MILLISECONDS * 1e6, digits, isZoned)
      : new Moment(day, time, digits, isZoned);
  }

  /** The time in an ISO 8601 text, in UTC where it names a zone; null when the text is something else. */
  static parse(text: string): Moment | null {
    const { date, minute, second = "00", fraction = "", zone } = TIME.exec(text)?.groups ?? {};
    if (date === undefined) return null;
    const offset = zone === undefined || /z/i.test(zone) ? "Z" : zone;
    const milliseconds = Date.parse(minute === undefined ? date : `${date}T${minute}:${second}${offset}`);
    if (Number.isNaN(milliseconds)) return null;
    const day = Math.floor(milliseconds / DAY_MILLISECONDS);
    const time = (milliseconds - day * DAY_MILLISECONDS) * 1e6 + Number(fraction.padEnd(9, "0"));
    return new Moment(day, time, 9, zone !== undefined);
  }

  /** ISO 8601, with as many digits as its type has: 2026-01-02, 2026-01-02T03:04:05.123456. */
  toString(): string {
    const date = dateText(this.#day);
    if (this.#digits === null) return date;
    return `${date}T${timeText(this.#time, this.#digits)}${this.#isZoned ? "Z" : ""}`;
  }

  compare(other: Moment): number {
    return this.#day - other.#day || this.#time - other.#time;
  }
}

/** A time of day: 03:04:05.123. @param digits Number of digits of the fraction. */
export function timeText(nanoseconds: number, digits: number): string {
  const seconds = Math.floor(nanoseconds / SECOND_NANOSECONDS);
  const parts = [seconds / 3600, (seconds / 60) % 60, seconds % 60];
  const clock = parts.map((part) => String(Math.floor(part)).padStart(2, "0")).join(":");
  if (digits === 0) return clock;
  const fraction = String(nanoseconds % SECOND_NANOSECONDS).padStart(9, "0");
  return `${clock}.${fraction.slice(0, digits)}`;
}

/** The text of a value as it is kept and used as an id: binary in hexadecimal digits; null for one without a text. */
export function exactText(value: unknown): string | null {
  if (value instanceof Decimal || value instanceof ExactNumber || value instanceof Moment) return String(value);
  if (value instanceof Uint8Array) return Buffer.from(value.buffer, value.byteOffset, value.length).toString("hex");
  return null;
}

function dateText(day: number): string {
  const date = new Date(day * DAY_MILLISECONDS);
  // Beyond the years that Date knows, the number of days is at least exact.
  return Number.isNaN(date.getTime()) ? `1970-01-01+${day}d` : date.toISOString().slice(0, -MIDNIGHT.length);
}
