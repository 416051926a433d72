/**
 * JSON with every digit of its numbers. `JSON.parse` is several times as fast, so lines are parsed by it first, and
 * anew here only if a field that is used may have lost digits, or if the line has `NaN` or `Infinity`.
 */
import { ExactNumber } from "../../src/core/exact.ts";
import { fieldAt, type RecordOptions } from "./record.ts";

/** Digits beyond those that a double always holds. */
const LONG_NUMBER = /\d[\d.]{15}/;
/** What a double may write differently: fractions, exponents and many digits. */
const UNLIKE_NUMBER = /\d(?:\.\d|[eE]|\d{15})|-0/;
const NOT_FINITE = /NaN|Infinity/;

/** The parsed value, or why the text is invalid. */
export type Parsed = { readonly record: unknown } | { readonly fault: string };

/**
 * Parses one JSON text. `NaN` and `Infinity`, which Python writes, are null. Numbers of the fields in `options` whose
 * text a double does not give back are `ExactNumber`.
 */
export function parseRecord(text: string, options: Pick<RecordOptions, "idField" | "where" | "keep">): Parsed {
  // Only the error's message is needed, and its stack trace would take longer than everything else about a bad line.
  const { stackTraceLimit } = Error;
  Error.stackTraceLimit = 0;
  try {
    const record: unknown = JSON.parse(text);
    return { record: losesDigits(record, text, options) ? parseExactJson(text) : record };
  } catch (error) {
    return parseNotFinite(text) ?? { fault: (error as Error).message };
  } finally {
    Error.stackTraceLimit = stackTraceLimit;
  }
}

function parseNotFinite(text: string): Parsed | null {
  if (!NOT_FINITE.test(text)) return null;
  try {
    return { record: parseExactJson(text) };
  } catch {
    // The first parser's message names the fault as well.
    return null;
  }
}

function losesDigits(
  record: unknown,
  text: string,
  { idField, where, keep }: Pick<RecordOptions, "idField" | "where" | "keep">,
): boolean {
  if (typeof record !== "object" || record === null) return false;
  const id = fieldAt(record, idField);
  if (typeof id === "number" && !Number.isSafeInteger(id) && LONG_NUMBER.test(text)) return true;
  const isNumber = (field: string): boolean => typeof fieldAt(record, field) === "number";
  if (where.some(({ field }) => isNumber(field)) && LONG_NUMBER.test(text)) return true;
  const mayHoldNumber = (field: string): boolean => ["number", "object"].includes(typeof fieldAt(record, field));
  return keep.some(mayHoldNumber) && UNLIKE_NUMBER.test(text);
}

type Container = unknown[] | Record<string, unknown>;

/**
 * The value of a JSON text, in which `NaN`, `Infinity` and `-Infinity` are null. Values may be nested as deep as the
 * text is long.
 *
 * @throws SyntaxError
 */
export function parseExactJson(text: string): unknown {
  return new Reader(text).read();
}

const SPACE = /[\t\n\r ]*/y;
const SCALAR = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null|NaN|-?Infinity/y;
const LITERALS: ReadonlyMap<string, unknown> = new Map<string, unknown>([
  ["true", true],
  ["false", false],
  ["null", null],
  ["NaN", null],
  ["Infinity", null],
  ["-Infinity", null],
]);

class Reader {
  readonly #text: string;
  #at = 0;
  /** Containers that are not closed, outermost first, and of each object the key whose value comes next. */
  readonly #open: { readonly container: Container; key: string }[] = [];

  constructor(text: string) {
    this.#text = text;
  }

  read(): unknown {
    for (let value = this.#next(); ;) {
      // A container that was just opened, and not closed at once, needs its first value.
      const isOpened = this.#open.at(-1)?.container === value && value !== undefined;
      if (isOpened) {
        value = this.#next();
        continue;
      }
      const inner = this.#open.at(-1);
      if (inner === undefined) {
        if (this.#peek() !== "") throw this.#unexpected();
        return value;
      }
      put(inner, value);
      value = this.#afterValue(inner.container);
    }
  }

  /** After a value within a container: the next value, or the container itself if it ends here. */
  #afterValue(container: Container): unknown {
    const isArray = Array.isArray(container);
    const char = this.#peek();
    if (char === ",") {
      this.#at++;
      if (!isArray) this.#key();
      return this.#next();
    }
    if (char !== (isArray ? "]" : "}")) throw this.#unexpected();
    this.#at++;
    this.#open.pop();
    return container;
  }

  /** A scalar, an empty container, or a container that is opened and put on the stack. */
  #next(): unknown {
    const char = this.#peek();
    if (char === '"') return this.#string();
    if (char !== "{" && char !== "[") return this.#scalar();
    this.#at++;
    const container: Container = char === "[" ? [] : {};
    if (this.#peek() === (char === "[" ? "]" : "}")) {
      this.#at++;
      return container;
    }
    this.#open.push({ container, key: "" });
    if (char === "{") this.#key();
    return container;
  }

  #key(): void {
    if (this.#peek() !== '"') throw this.#unexpected();
    this.#open.at(-1)!.key = this.#string();
    if (this.#peek() !== ":") throw this.#unexpected();
    this.#at++;
  }

  #string(): string {
    const start = this.#at;
    for (let end = this.#text.indexOf('"', start + 1); end !== -1; end = this.#text.indexOf('"', end + 1)) {
      let slashes = 0;
      while (this.#text[end - 1 - slashes] === "\\") slashes++;
      if (slashes % 2 === 1) continue;
      this.#at = end + 1;
      return JSON.parse(this.#text.slice(start, end + 1)) as string;
    }
    throw this.#unexpected();
  }

  #scalar(): unknown {
    SCALAR.lastIndex = this.#at;
    const [text] = SCALAR.exec(this.#text) ?? [];
    if (text === undefined) throw this.#unexpected();
    this.#at += text.length;
    if (LITERALS.has(text)) return LITERALS.get(text);
    const number = Number(text);
    return String(number) === text ? number : new ExactNumber(text);
  }

  /** The next character that is not white space; empty at the end. */
  #peek(): string {
    SPACE.lastIndex = this.#at;
    SPACE.exec(this.#text);
    this.#at = SPACE.lastIndex;
    return this.#text[this.#at] ?? "";
  }

  #unexpected(): SyntaxError {
    const char = this.#text[this.#at];
    const what = char === undefined ? "end" : `character ${JSON.stringify(char)}`;
    return new SyntaxError(`unexpected ${what} at position ${this.#at}`);
  }
}

function put({ container, key }: { readonly container: Container; readonly key: string }, value: unknown): void {
  if (Array.isArray(container)) container.push(value);
  // As JSON.parse does, not as an assignment, which would change the prototype.
  else if (key === "__proto__")
    Object.defineProperty(container, key, { value, enumerable: true, configurable: true, writable: true });
  else container[key] = value;
}
