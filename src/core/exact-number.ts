/** Numbers of which a double would lose digits. Pure. */

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

interface Decimal {
  readonly isNegative: boolean;
  /** Significant digits without zeros at either end; empty for zero. */
  readonly digits: string;
  /** Place of the first digit: 0 for 0.1 to 0.9, 1 for 1 to 9. */
  readonly place: number;
}

const DECIMAL = /^\s*([+-]?)(\d*)(?:\.(\d*))?(?:[eE]([+-]?\d+))?\s*$/;

function decimalOf(text: string): Decimal | null {
  const [, sign, whole = "", fraction = "", exponent = "0"] = DECIMAL.exec(text) ?? [];
  if (sign === undefined || whole + fraction === "") return null;
  const all = whole + fraction;
  const start = all.search(/[1-9]/);
  if (start === -1) return { isNegative: false, digits: "", place: 0 };
  const place = whole.length - start + Number(exponent);
  return { isNegative: sign === "-", digits: all.slice(start).replace(/0+$/, ""), place };
}

/** Three-way comparison of two decimal texts by their exact values; null if one is no number. */
export function compareDecimals(a: string, b: string): number | null {
  const [one, other] = [decimalOf(a), decimalOf(b)];
  if (one === null || other === null) return null;
  const signs = signOf(one) - signOf(other);
  if (signs !== 0 || one.digits === "") return signs;
  const places = one.place - other.place;
  const sizes = places !== 0 ? places : one.digits < other.digits ? -1 : one.digits > other.digits ? 1 : 0;
  return one.isNegative ? -sizes : sizes;
}

function signOf({ isNegative, digits }: Decimal): number {
  return digits === "" ? 0 : isNegative ? -1 : 1;
}
