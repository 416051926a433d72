/**
 * Numbers and times that JavaScript's own types would round: decimals, and points in time with a precision of their
 * own. Both have an exact text, and are compared exactly. Pure.
 */

const NUMBER = /^\s*(?<sign>[-+]?)(?<whole>\d*)(?:\.(?<fraction>\d*))?(?:[eE](?<exponent>[-+]?\d+))?\s*$/;
/** Limit on exponents: beyond, powers of ten would take long to compute. */
const MAX_EXPONENT = 10_000;
const MILLISECOND = 1_000_000n;
const SECOND = 1_000_000_000n;
const DAY = 86_400n * SECOND;
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

  /** The number of a text; null when it is none. */
  static parse(text: string): Decimal | null {
    const { sign, whole = "", fraction = "", exponent = "0" } = NUMBER.exec(text)?.groups ?? {};
    if (whole + fraction === "" || Math.abs(Number(exponent)) > MAX_EXPONENT) return null;
    return new Decimal(BigInt(`${sign === "-" ? "-" : ""}${whole}${fraction}`), fraction.length - Number(exponent));
  }

  /** The exact text, with all digits of the scale: 19.90. */
  toString(): string {
    if (this.#scale === 0) return String(this.#unscaled);
    const isNegative = this.#unscaled < 0n;
    const digits = String(isNegative ? -this.#unscaled : this.#unscaled).padStart(this.#scale + 1, "0");
    return `${isNegative ? "-" : ""}${digits.slice(0, -this.#scale)}.${digits.slice(-this.#scale)}`;
  }

  /** Negative, zero or positive, as in a sort comparison. */
  compare(other: Decimal): number {
    const scale = Math.max(this.#scale, other.#scale);
    const difference =
      this.#unscaled * 10n ** BigInt(scale - this.#scale) - other.#unscaled * 10n ** BigInt(scale - other.#scale);
    return Number(difference > 0n) - Number(difference < 0n);
  }
}

/** A date, or a date with a time of day, by a clock of no zone or in UTC. */
export class Moment {
  /** Nanoseconds since 1970-01-01T00:00. */
  readonly #nanoseconds: bigint;
  readonly #digits: number | null;
  readonly #isZoned: boolean;

  /**
   * @param digits Number of digits of the fraction of a second; null for a date.
   * @param isZoned Whether it is a point in time, written in UTC with a `Z`.
   */
  constructor(nanoseconds: bigint, digits: 0 | 3 | 6 | 9 | null, isZoned: boolean) {
    this.#nanoseconds = nanoseconds;
    this.#digits = digits;
    this.#isZoned = isZoned;
  }

  static ofDays(days: bigint): Moment {
    return new Moment(days * DAY, null, false);
  }

  /** The time in an ISO 8601 text, in UTC where it names a zone; null when the text is something else. */
  static parse(text: string): Moment | null {
    const { date, minute, second = "00", fraction = "", zone } = TIME.exec(text)?.groups ?? {};
    if (date === undefined) return null;
    const offset = zone === undefined || /z/i.test(zone) ? "Z" : zone;
    const milliseconds = Date.parse(minute === undefined ? date : `${date}T${minute}:${second}${offset}`);
    if (Number.isNaN(milliseconds)) return null;
    return new Moment(BigInt(milliseconds) * MILLISECOND + BigInt(fraction.padEnd(9, "0")), 9, zone !== undefined);
  }

  /** ISO 8601, with as many digits as its type has: 2026-01-02, 2026-01-02T03:04:05.123456. */
  toString(): string {
    const day = floorDivide(this.#nanoseconds, DAY);
    const date = dateText(Number(day));
    if (this.#digits === null) return date;
    return `${date}T${timeText(this.#nanoseconds - day * DAY, this.#digits)}${this.#isZoned ? "Z" : ""}`;
  }

  compare(other: Moment): number {
    const difference = this.#nanoseconds - other.#nanoseconds;
    return Number(difference > 0n) - Number(difference < 0n);
  }
}

/** A time of day: 03:04:05.123. @param digits Number of digits of the fraction. */
export function timeText(nanoseconds: bigint, digits: number): string {
  const seconds = Number(nanoseconds / SECOND);
  const parts = [seconds / 3600, (seconds / 60) % 60, seconds % 60];
  const clock = parts.map((part) => String(Math.floor(part)).padStart(2, "0")).join(":");
  if (digits === 0) return clock;
  return `${clock}.${String(nanoseconds % SECOND).padStart(9, "0").slice(0, digits)}`;
}

/** The text of a value as it is kept and used as an id: binary in hexadecimal digits; null for one without a text. */
export function exactText(value: unknown): string | null {
  if (value instanceof Decimal || value instanceof Moment) return String(value);
  if (value instanceof Uint8Array) return Buffer.from(value.buffer, value.byteOffset, value.length).toString("hex");
  return null;
}

function dateText(day: number): string {
  const date = new Date(day * 86_400_000);
  // Beyond the years that Date knows, the number of days is at least exact.
  return Number.isNaN(date.getTime()) ? `1970-01-01+${day}d` : date.toISOString().replace(/T.*/, "");
}

function floorDivide(a: bigint, b: bigint): bigint {
  const quotient = a / b;
  return a % b < 0n ? quotient - 1n : quotient;
}
