/**
 * Splits a stream of JSON values, or of arrays of them, into its elements, however they are laid out in lines. Only the
 * element at hand is held. Structure is checked here, so that a damaged element does not take the next ones with it;
 * what strings and numbers may be is left to the parser.
 */

export type JsonElement =
  | { readonly kind: "element"; readonly line: number; readonly bytes: Buffer }
  /** Its bytes are dropped as they stream past. */
  | { readonly kind: "too-long"; readonly line: number; readonly byteLength: number }
  | { readonly kind: "bad"; readonly line: number; readonly detail: string };

const [TAB, NEWLINE, RETURN, RECORD_SEPARATOR, SPACE] = [9, 10, 13, 30, 32] as const;
const [QUOTE, COMMA, COLON, BACKSLASH] = [34, 44, 58, 92] as const;
const [OPEN_LIST, CLOSE_LIST, OPEN_OBJECT, CLOSE_OBJECT] = [91, 93, 123, 125] as const;
/** Containers within an element; each takes a few bytes of memory, and one byte of the file. */
const MAX_DEPTH = 1_000_000;

/** What may come next. */
type State =
  | "element"
  /** Within an element. */
  | "value"
  | "value-or-end"
  | "key"
  | "key-or-end"
  | "colon"
  | "comma-or-end"
  | "string"
  | "escape"
  | "scalar"
  /** After damage, until an element begins like the damaged one. */
  | "skip";

export class JsonElements {
  readonly #maxBytes: number;
  #state: State = "element";
  #isInArray = false;
  #line = 1;
  /** Column of the first character of the line that is not white space; -1 before it was seen. */
  #indent = -1;
  #column = 0;
  /** Closing characters of the containers that are open within the element. */
  #closers: number[] = [];
  #isKey = false;
  #parts: Buffer[] = [];
  #length = 0;
  /** Line of the element at hand, and its first column if it is the first of its line; else -1. */
  #begin: { line: number; indent: number } | null = null;
  /** `indent` of the damaged element. */
  #skipIndent = -1;

  /** @param maxBytes Maximum length of an element. */
  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** Line that was reached, from 1. */
  get line(): number {
    return this.#line;
  }

  /** The elements that end in this chunk. Their bytes may be views of the chunk. */
  *push(chunk: Buffer): Generator<JsonElement> {
    /** Where the part of the element begins that was not taken yet. */
    let start = 0;
    for (let at = 0; at < chunk.length;) {
      if (this.#state === "string") {
        at = this.#inString(chunk, at);
        if (at === chunk.length) break;
      }
      const wasInElement = this.#begin !== null;
      const step = this.#step(chunk[at]!);
      if (!wasInElement && this.#begin !== null) start = at;
      if (step === "ends-before" || step === "ends-after") {
        const end = step === "ends-after" ? at + 1 : at;
        this.#take(chunk.subarray(start, end));
        yield this.#finish();
      } else if (step !== "goes-on" && step !== "again") {
        yield step;
        continue;
      }
      // A character that ends a number is looked at again, and one that may begin the element after a damaged one.
      if (step === "ends-before" || step === "again") continue;
      this.#move(chunk[at]!);
      at++;
    }
    // Streams may reuse a chunk's memory, so the rest is copied.
    if (this.#begin !== null && start < chunk.length) this.#take(Buffer.from(chunk.subarray(start)));
  }

  /** What is left at the end of the file. */
  *end(): Generator<JsonElement> {
    if (this.#begin !== null && this.#state === "scalar" && this.#closers.length === 0) yield this.#finish();
    else if (this.#begin !== null) {
      yield {
        kind: "bad",
        line: this.#begin.line,
        detail: "the element begins here, and the file ends before it does",
      };
    } else if (this.#isInArray && this.#state !== "skip")
      yield { kind: "bad", line: this.#line, detail: "the file ends before its array is closed" };
  }

  /** Passes over the plain characters of a string. */
  #inString(chunk: Buffer, from: number): number {
    let at = from;
    for (; at < chunk.length; at++) {
      const byte = chunk[at];
      if (byte === QUOTE || byte === BACKSLASH || byte === NEWLINE) break;
    }
    this.#column += at - from;
    return at;
  }

  #move(byte: number): void {
    if (byte === NEWLINE) {
      this.#line++;
      this.#column = 0;
      this.#indent = -1;
      return;
    }
    if (this.#indent === -1 && !isSpace(byte)) this.#indent = this.#column;
    this.#column++;
  }

  #step(byte: number): Step {
    switch (this.#state) {
      case "string":
        return this.#inText(byte);
      case "escape":
        this.#state = "string";
        return "goes-on";
      case "scalar":
        if (!isSpace(byte) && !isMark(byte)) return "goes-on";
        this.#state = "comma-or-end";
        return this.#closers.length === 0 ? "ends-before" : "again";
      case "skip":
        return this.#skipped(byte);
      default:
        if (isSpace(byte)) return "goes-on";
        return this.#begin === null ? this.#outside(byte) : this.#inside(byte);
    }
  }

  #inText(byte: number): Step {
    if (byte === NEWLINE) return this.#fail("a string is not closed");
    if (byte === BACKSLASH) this.#state = "escape";
    else if (this.#isKey) this.#state = "colon";
    else return this.#afterValue();
    return "goes-on";
  }

  /** Between elements, where it is all the same how many commas there are. */
  #outside(byte: number): Step {
    if (byte === COMMA || byte === RECORD_SEPARATOR) return "goes-on";
    if (byte === (this.#isInArray ? CLOSE_LIST : OPEN_LIST)) {
      this.#isInArray = !this.#isInArray;
      return "goes-on";
    }
    this.#start();
    return this.#value(byte);
  }

  #start(): void {
    this.#begin = { line: this.#line, indent: this.#indent === -1 ? this.#column : -1 };
    this.#closers = [];
  }

  #inside(byte: number): Step {
    const closer = this.#closers.at(-1);
    switch (this.#state) {
      case "value-or-end":
      case "value":
        return byte === closer && this.#state === "value-or-end" ? this.#close() : this.#value(byte);
      case "key-or-end":
      case "key":
        if (byte === closer && this.#state === "key-or-end") return this.#close();
        if (byte !== QUOTE) return this.#fail(`${shown(byte)} is where a name should be`);
        this.#isKey = true;
        this.#state = "string";
        return "goes-on";
      case "colon":
        if (byte !== COLON) return this.#fail(`${shown(byte)} is where a colon should be`);
        this.#state = "value";
        return "goes-on";
      default:
        if (byte === closer) return this.#close();
        if (byte !== COMMA) return this.#fail(`${shown(byte)} is where a comma should be`);
        this.#state = closer === CLOSE_LIST ? "value" : "key";
        return "goes-on";
    }
  }

  /** The first character of a value. */
  #value(byte: number): Step {
    if (byte === QUOTE) {
      this.#isKey = false;
      this.#state = "string";
    } else if (byte === OPEN_OBJECT || byte === OPEN_LIST) {
      if (this.#closers.length >= MAX_DEPTH) return this.#fail(`values are nested more than ${MAX_DEPTH} deep`);
      this.#closers.push(byte === OPEN_OBJECT ? CLOSE_OBJECT : CLOSE_LIST);
      this.#state = byte === OPEN_OBJECT ? "key-or-end" : "value-or-end";
    } else if (isMark(byte)) return this.#fail(`${shown(byte)} is where a value should be`);
    else this.#state = "scalar";
    return "goes-on";
  }

  #close(): Step {
    this.#closers.pop();
    return this.#afterValue();
  }

  #afterValue(): Step {
    this.#state = "comma-or-end";
    return this.#closers.length === 0 ? "ends-after" : "goes-on";
  }

  /** Gives the element up, and reads on where one begins as it did: at a line's begin, as far from the margin. */
  #fail(problem: string): Step {
    const { line, indent } = this.#begin!;
    this.#drop();
    this.#skipIndent = indent;
    this.#state = "skip";
    return { kind: "bad", line, detail: `${problem} in line ${this.#line}` };
  }

  #skipped(byte: number): Step {
    if (this.#indent !== -1 || isSpace(byte)) return "goes-on";
    const isLike = this.#skipIndent === -1 || this.#column === this.#skipIndent;
    if (byte === OPEN_OBJECT && isLike) {
      this.#start();
      return this.#value(byte);
    }
    if (byte === CLOSE_LIST && this.#isInArray && (this.#skipIndent === -1 || this.#column < this.#skipIndent)) {
      this.#isInArray = false;
      this.#state = "element";
    }
    return "goes-on";
  }

  #take(part: Buffer): void {
    this.#length += part.length;
    if (this.#length <= this.#maxBytes) this.#parts.push(part);
    else this.#parts = [];
  }

  #finish(): JsonElement {
    const { line } = this.#begin!;
    const element: JsonElement =
      this.#length > this.#maxBytes
        ? { kind: "too-long", line, byteLength: this.#length }
        : { kind: "element", line, bytes: this.#parts.length === 1 ? this.#parts[0]! : Buffer.concat(this.#parts) };
    this.#drop();
    this.#state = "element";
    return element;
  }

  #drop(): void {
    this.#begin = null;
    this.#parts = [];
    this.#length = 0;
    this.#closers = [];
  }
}

/** What a character means for the element at hand; or why the element is bad. */
type Step = "goes-on" | "ends-before" | "ends-after" | "again" | Extract<JsonElement, { kind: "bad" }>;

function isSpace(byte: number): boolean {
  return byte === SPACE || byte === NEWLINE || byte === RETURN || byte === TAB;
}

/** Whether a number or a word ends before this character. */
function isMark(byte: number): boolean {
  return (
    byte === QUOTE ||
    byte === COMMA ||
    byte === COLON ||
    byte === OPEN_LIST ||
    byte === CLOSE_LIST ||
    byte === OPEN_OBJECT ||
    byte === CLOSE_OBJECT
  );
}

function shown(byte: number): string {
  return byte > SPACE && byte < 127 ? String.fromCharCode(byte) : `byte ${byte}`;
}
