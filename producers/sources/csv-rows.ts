/**
 * Rows of a table, line by line. A quoted field may run over lines; where it never closes as it should, only the line
 * at which it began is lost, and reading goes on at the next one.
 */
import type { RawLine } from "./csv-lines.ts";
import { endOf, type Field, join, owned, sizeOf, sliceOf, type Text, toText } from "./csv-text.ts";

export interface Dialect {
  /** Each a single character of ASCII. */
  readonly delimiter: string;
  /** Null where quotes have no meaning. */
  readonly quote: string | null;
  /** Null where a quote within quotes is doubled. */
  readonly escape: string | null;
  /**
   * Whether quotes are text, as in most TSV, unless a row can be read only with them: they hold a delimiter or line ends
   * (as TSV by pandas), and every row that they make has the right number of fields.
   */
  readonly areQuotesRare: boolean;
}

export interface Row {
  readonly kind: "row";
  readonly fields: readonly Field[];
  /** Number of fields, of which no more than `MAX_FIELDS` are listed. */
  readonly count: number;
  /** Lines at which it begins and ends, from 1. */
  readonly line: number;
  readonly lastLine: number;
}

/** What is read as no row, from the line at which it begins. */
export interface BadRow {
  readonly kind: "bad";
  readonly reason: "not_csv" | "too_long";
  readonly detail: string;
  readonly line: number;
}

/** Maximum number of fields per row that are listed; each is an object in memory, but may take only one byte. */
export const MAX_FIELDS = 100_000;
/** Lines may be read again after fields that never close, this many times as many bytes as the file has so far. */
const MAX_REREAD = 8;
const ANY_REREAD_BYTES = 1024 * 1024;
/** Maximum number of lines per row; each is an object in memory until the row ends, but may take only one byte. */
const MAX_LINES = 262_144;

/** A field that is not finished at the end of its line. */
interface OpenField {
  readonly isQuoted: boolean;
  /** Line at which the field begins. */
  readonly line: number;
  /** Its parts so far, with the line ends between them. */
  readonly parts: Field[];
}

export class CsvRows {
  #dialect: Dialect;
  readonly #maxBytes: number;
  /** The lines of the row so far, to be read anew if a field does not close. */
  #lines: RawLine[] = [];
  #open: OpenField | null = null;
  #fields: Field[] = [];
  #count = 0;
  /** Line at which the row begins, and its bytes so far. */
  #line = 0;
  #bytes = 0;
  #readBytes = 0;
  #rereadBytes = 0;
  /** Number of fields of every row, once it is known: it tells which `\r` within a line were line ends. */
  expected: number | null;

  /** @param maxBytes Maximum length of a row. */
  constructor(dialect: Dialect, maxBytes: number, expected: number | null) {
    this.#dialect = dialect;
    this.expected = expected;
    this.#maxBytes = maxBytes;
  }

  /** Number of lines that belong to whole rows when `lines` lines were taken. */
  wholeLines(lines: number): number {
    return this.#open === null ? lines : this.#line - 1;
  }

  /** What ends with this line: usually one row, and none at a blank line or within quotes. */
  *take(line: RawLine): Generator<Row | BadRow> {
    this.#readBytes += sizeOf(line);
    const stack = [line];
    for (let next = stack.pop(); next !== undefined; next = stack.pop()) {
      const bad = this.#open === null ? this.#begin(next) : this.#continue(next);
      if (bad !== null) {
        yield bad.row;
        for (const again of bad.again.toReversed()) stack.push(again);
      } else if (this.#open === null && this.#count > 0) yield* this.#rows(next);
    }
  }

  /** What is left at the end of the file. */
  *end(): Generator<Row | BadRow> {
    while (this.#open !== null) {
      const open: OpenField = this.#open;
      if (!open.isQuoted) {
        this.#close(join(open.parts));
        yield this.#row(this.#lines.at(-1)!.number);
        return;
      }
      const { row, again } = this.#fail(open, "a quote is opened here and never closed", "not_csv");
      yield row;
      for (const line of again) yield* this.take(line);
    }
  }

  #begin(line: RawLine): Failure | null {
    this.#fields = [];
    this.#count = 0;
    this.#line = line.number;
    this.#bytes = 0;
    this.#lines = [line];
    if (line.bytes === null) return { row: this.#tooLong(line.number, line.length), again: [] };
    if (line.length > 0) this.#readFields(toText(line.bytes), 0, line);
    return this.#open === null ? this.#settle() : null;
  }

  #continue(line: RawLine): Failure | null {
    const open = this.#open!;
    this.#lines.push(owned(line));
    const isTooLong = line.bytes === null || this.#bytes + line.length > this.#maxBytes;
    if (isTooLong || this.#lines.length > MAX_LINES) {
      const most = isTooLong ? `${this.#maxBytes} bytes that --max-document-bytes allows` : `${MAX_LINES} lines`;
      return this.#fail(open, `the row has more than the ${most}, or a quote in it is never closed`, "too_long");
    }
    const source = toText(line.bytes);
    const at = open.isQuoted ? this.#readQuoted(source, 0, open) : this.#readEscaped(source, 0, open);
    if (at === IRREGULAR)
      return this.#fail(open, "a quote is opened here and closed in the middle of a later line", "not_csv");
    if (at === UNFINISHED) {
      if (this.#dialect.areQuotesRare && this.#widthOf(source) === this.expected) return this.#fallBack();
      this.#keepOpen(open, line);
      return null;
    }
    this.#open = null;
    if (at < source.text.length) this.#readFields(source, at + 1, line);
    return this.#open === null ? this.#settle() : null;
  }

  /** At the end of a row: whether its quotes are text after all. */
  #settle(): Failure | null {
    const { areQuotesRare, quote } = this.#dialect;
    const [first, last] = [this.#lines[0]!, this.#lines.at(-1)!];
    if (!areQuotesRare || !first.bytes!.includes(quote!)) return null;
    const widths = [first, last].map((line) => this.#widthOf(toText(line.bytes!)));
    const isPlainRow = widths.every((width) => width === this.expected);
    const isNeeded = first === last ? !isPlainRow || first.bytes!.includes(quote! + quote!) : !isPlainRow;
    return isNeeded && this.#count === this.expected ? null : this.#fallBack();
  }

  /** The first line as a row in which quotes are text, and the others anew. */
  #fallBack(): Failure {
    const [first, ...others] = this.#lines as [RawLine, ...RawLine[]];
    this.#open = null;
    this.#fields = [];
    this.#count = 0;
    const { text, isUtf8: isText } = toText(first.bytes!);
    let at = 0;
    for (const part of text.split(this.#dialect.delimiter)) {
      this.#close(sliceOf({ text, isUtf8: isText }, at, at + part.length));
      at += part.length + 1;
    }
    const again = this.#reread(others);
    // Never again: too many lines were read twice.
    if (again === null) this.#dialect = { ...this.#dialect, quote: null, areQuotesRare: false };
    return { row: this.#row(first.number), again: others };
  }

  #widthOf({ text }: Text): number {
    const { delimiter } = this.#dialect;
    let width = 1;
    for (let at = text.indexOf(delimiter); at !== -1; at = text.indexOf(delimiter, at + 1)) width++;
    return width;
  }

  /** Reads fields to the end of the line; the last one may go on in the next. */
  #readFields(source: Text, start: number, line: RawLine): void {
    const { delimiter, quote, escape } = this.#dialect;
    const { text } = source;
    const hasQuotes = quote !== null && text.includes(quote, start);
    const hasEscapes = quote === null && escape !== null && text.includes(escape, start);
    for (let at = start; ; at++) {
      let end: number;
      if (hasQuotes && text.startsWith(quote, at)) {
        end = this.#readFirst(source, at, line);
        if (end === UNFINISHED) return;
      } else if (hasEscapes) {
        const open: OpenField = { isQuoted: false, line: line.number, parts: [] };
        end = this.#readEscaped(source, at, open);
        if (end === UNFINISHED) return this.#keepOpen(open, line);
      } else {
        end = endOf(text, delimiter, at);
        this.#close(this.#plain(source, at, end));
      }
      if (end === text.length) return;
      at = end;
    }
  }

  /** A field that begins with a quote at `at`. @returns Where it ends, or `UNFINISHED` */
  #readFirst(source: Text, at: number, line: RawLine): number {
    const open: OpenField = { isQuoted: true, line: line.number, parts: [] };
    const end = this.#readQuoted(source, at + 1, open);
    if (end >= 0) return end;
    if (end === UNFINISHED) {
      this.#keepOpen(open, line);
      return UNFINISHED;
    }
    // A word in quotes at the beginning of a text that is not quoted as a whole: `"so" he said`.
    const literal = endOf(source.text, this.#dialect.delimiter, this.#irregularAt);
    this.#close(sliceOf(source, at, literal));
    return literal;
  }

  /** Where the last irregular quote was. */
  #irregularAt = 0;

  /** Reads on within quotes. @returns Where the field ends, `UNFINISHED` or `IRREGULAR` */
  #readQuoted(source: Text, start: number, open: OpenField): number {
    const { delimiter, escape } = this.#dialect;
    const quote = this.#dialect.quote!;
    const { text } = source;
    let from = start;
    for (let at = start; ;) {
      const quoteAt = text.indexOf(quote, at);
      const escapeAt = escape === null || escape === quote ? -1 : text.indexOf(escape, at);
      if (escapeAt !== -1 && (quoteAt === -1 || escapeAt < quoteAt)) {
        const next = text[escapeAt + 1];
        if (next === quote || next === escape) {
          open.parts.push(sliceOf(source, from, escapeAt));
          from = escapeAt + 1;
        }
        at = escapeAt + 2;
        continue;
      }
      if (quoteAt === -1) {
        open.parts.push(sliceOf(source, from, text.length));
        return UNFINISHED;
      }
      if (text[quoteAt + 1] === quote) {
        open.parts.push(sliceOf(source, from, quoteAt));
        from = quoteAt + 1;
        at = quoteAt + 2;
        continue;
      }
      const end = quoteAt + 1;
      if (end < text.length && text[end] !== delimiter) {
        this.#irregularAt = end;
        return IRREGULAR;
      }
      open.parts.push(sliceOf(source, from, quoteAt));
      this.#close(join(open.parts));
      return end;
    }
  }

  /** Reads on where delimiters and line ends may be escaped. @returns Where the field ends, or `UNFINISHED` */
  #readEscaped(source: Text, start: number, open: OpenField): number {
    const { delimiter } = this.#dialect;
    const escape = this.#dialect.escape!;
    const { text } = source;
    let from = start;
    for (let at = start; ;) {
      const end = endOf(text, delimiter, at);
      const escapeAt = text.indexOf(escape, at);
      if (escapeAt === -1 || escapeAt >= end) {
        const isWhole = open.parts.length === 0 && from === start;
        open.parts.push(isWhole ? this.#plain(source, from, end) : sliceOf(source, from, end));
        this.#close(join(open.parts));
        return end;
      }
      const next = text[escapeAt + 1];
      if (next === undefined || next === escape || next === delimiter) {
        open.parts.push(sliceOf(source, from, escapeAt));
        from = escapeAt + 1;
        if (next === undefined) return UNFINISHED;
      }
      at = escapeAt + 2;
    }
  }

  #plain(source: Text, start: number, end: number): Field {
    if (this.#dialect.escape === "\\" && end - start === 2 && source.text.startsWith("\\N", start)) return null;
    return sliceOf(source, start, end);
  }

  #close(field: Field): void {
    if (this.#count++ < MAX_FIELDS) this.#fields.push(field);
  }

  #keepOpen(open: OpenField, line: RawLine): void {
    open.parts.push(line.end);
    this.#bytes += sizeOf(line);
    if (this.#lines.length === 1) this.#lines = [owned(line)];
    this.#open = open;
  }

  #row(lastLine: number): Row {
    const row: Row = { kind: "row", fields: this.#fields, count: this.#count, line: this.#line, lastLine };
    this.#open = null;
    this.#fields = [];
    this.#count = 0;
    return row;
  }

  /** The row, or the rows of a line in which some lines end with a lone `\r`: where each has the right number of fields. */
  *#rows(line: RawLine): Generator<Row> {
    const row = this.#row(line.number);
    const { expected } = this;
    if (expected === null || row.count === expected || row.line !== row.lastLine || !line.bytes!.includes(13)) {
      yield row;
      return;
    }
    const pieces = toText(line.bytes!);
    const ends = pieces.text.split("\r").filter((text) => text !== "");
    const parts: Row[] = [];
    for (const text of ends) {
      this.#readFields({ text, isUtf8: pieces.isUtf8 }, 0, line);
      if (this.#open !== null || this.#count !== expected) break;
      parts.push(this.#row(line.number));
    }
    this.#row(line.number);
    if (parts.length === ends.length) yield* parts;
    else yield row;
  }

  #tooLong(line: number, bytes: number): BadRow {
    const detail = `the row has ${bytes} bytes; --max-document-bytes allows ${this.#maxBytes}`;
    return { kind: "bad", reason: "too_long", detail, line };
  }

  /** Gives up the row of a field that does not close. Its later lines are read anew, unless that was done too often. */
  #fail(open: OpenField, problem: string, reason: BadRow["reason"]): Failure {
    if (this.#dialect.areQuotesRare) return this.#fallBack();
    const again = this.#reread(this.#lines.filter(({ number }) => number > open.line));
    const last = this.#lines.at(-1)!.number;
    const next =
      again === null ? `line ${last + 1}, as too many fields before it do not close, either` : "the next line";
    const cure = this.#dialect.escape === null ? "; see --quote and --escape" : "";
    const detail = `${problem}; reading goes on at ${next}${cure}`;
    this.#open = null;
    this.#fields = [];
    this.#count = 0;
    return { row: { kind: "bad", reason, detail, line: open.line }, again: again ?? [] };
  }

  /** The lines, counted as read once more; null when that was done too often. */
  #reread(lines: readonly RawLine[]): readonly RawLine[] | null {
    const bytes = lines.reduce((sum, line) => sum + sizeOf(line), 0);
    if (this.#rereadBytes + bytes > MAX_REREAD * this.#readBytes + ANY_REREAD_BYTES) return null;
    this.#rereadBytes += bytes;
    return lines;
  }
}

interface Failure {
  readonly row: Row | BadRow;
  readonly again: readonly RawLine[];
}

const UNFINISHED = -1;
const IRREGULAR = -2;
