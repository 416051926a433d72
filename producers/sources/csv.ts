/** CSV and TSV with a header line: one document per row. */
import { isUtf8 } from "node:buffer";
import { pipeline, Readable } from "node:stream";
import { type CsvError, type Info, type Parser, parse } from "csv-parse";
import { type RejectReason, rejectAt, type SourceItem } from "../../src/core/documents.ts";
import { FleetError } from "../../src/core/errors.ts";
import type { ByteSource } from "../../src/core/ports.ts";
import { resolveColumns } from "./resolve-columns.ts";
import { peek, plainText } from "./decode.ts";
import { NOT_UTF8, type RecordOptions, toDocument } from "./record.ts";
import { unreadableAt } from "./unreadable.ts";

const NEWLINE = 10;
const RETURN = 13;
/** Number of bytes at the start of a file that are searched for the header line, to detect the delimiter. */
const HEADER_BYTES = 64 * 1024;
/** Maximum number of fields per row; each is an object in memory, but may take only one byte of the file. */
const MAX_FIELDS = 100_000;
/** Number of bytes that are parsed between two checks of an unfinished row. */
const PIECE_BYTES = 64 * 1024;
const DELIMITERS = [",", ";", "\t", "|"] as const;

interface Row {
  readonly fields: readonly Buffer[];
  /** Line at which it begins, from 1. */
  readonly line: number;
  readonly lastLine: number;
}

type CsvOptions = RecordOptions & { readonly format: "csv" | "tsv" };
type Parsed = { readonly row: Row } | { readonly refused: SourceItem };

/**
 * Documents of the rows. The delimiter of CSV is the most frequent of comma, semicolon, tab and bar in the header. A
 * row with more or fewer fields than the header is a reject; an unclosed quote takes the rest of the file with it.
 */
export async function* readCsv(source: ByteSource, options: CsvOptions): AsyncGenerator<SourceItem> {
  let header: readonly string[] | null = null;
  let columns: readonly (readonly [name: string, index: number])[] = [];
  for await (const parsed of readRows(source, options)) {
    if ("refused" in parsed) {
      yield parsed.refused;
      continue;
    }
    const { fields, line } = parsed.row;
    if (header === null) {
      header = fields.map((field) => field.toString("utf8").trim());
      const resolved = resolveColumns(
        source.name,
        header.map((name) => ({ name, type: "", isText: true })),
        options,
      );
      if ("refused" in resolved) {
        yield resolved.refused;
        return;
      }
      columns = resolved.needed.map((name) => [name, header!.indexOf(name)]);
    } else if (fields.length !== header.length) {
      const detail = `the row has ${fields.length} fields and the header ${header.length}`;
      yield { kind: "reject", reject: rejectAt({ file: source.name, line }, "not_csv", detail) };
    } else {
      const record = Object.fromEntries(columns.map(([name, index]) => [name, textOf(fields[index]!)]));
      const item = toDocument(record, { file: source.name, line }, options);
      if (item !== null) yield item;
    }
  }
}

function textOf(field: Buffer): string | typeof NOT_UTF8 {
  return isUtf8(field) ? field.toString("utf8") : NOT_UTF8;
}

/**
 * Rows and rejects in order. A row is yielded when the next one begins, because the last row before a
 * read error may be incomplete.
 */
async function* readRows(source: ByteSource, options: CsvOptions): AsyncGenerator<Parsed> {
  const { head, chunks } = await peek(plainText(source), HEADER_BYTES);
  const rowLimits = new RowLimits(source.name, options.maxDocumentBytes);
  const feed = new Feed(chunks, (bytes) => rowLimits.check(parser, bytes));
  const skipped: CsvError[] = [];
  const parser = openParser(delimiterOf(head, options.format), options, (error) => {
    skipped.push(error);
    if (isFatal(error)) feed.stop();
  });
  // Ends both together. Read errors are kept by the feed and parse errors skipped, so none arrives here.
  pipeline(Readable.from(feed.chunks(), { highWaterMark: 1 }), parser, () => {});
  const lines = new LineCounter();
  let last: Row | null = null;
  const refuse = (error: CsvError): Parsed => ({
    refused: rejectOf(error, source.name, (last?.lastLine ?? 0) + 1, options),
  });
  for await (const { record, info } of parser as AsyncIterable<{ record: Buffer[]; info: Info }>) {
    if (last !== null) yield { row: last };
    for (let error = skipped[0]; error !== undefined && Number(error["records"]) < info.records; error = skipped[0]) {
      yield refuse(error);
      if (isFatal(error)) return;
      skipped.shift();
    }
    last = lines.place(record, info.lines);
  }
  const isHalf = feed.fault !== null && !feed.endsWithLine;
  if (last !== null && !isHalf) yield { row: last };
  if (feed.fault === null) {
    const fatal = skipped.findIndex(isFatal);
    for (const error of fatal === -1 ? skipped : skipped.slice(0, fatal + 1)) yield refuse(error);
    return;
  }
  const reached = last === null ? 0 : isHalf ? last.line - 1 : last.lastLine;
  const after = reached === 0 ? null : `after line ${reached}`;
  yield { refused: unreadableAt({ file: source.name, line: reached + 1 }, feed.fault, after) };
}

function openParser(delimiter: string, options: CsvOptions, onSkip: (error: CsvError) => void): Parser {
  return parse({
    delimiter,
    // Fields as bytes: only the needed ones are decoded, and each is checked for valid UTF-8.
    encoding: null,
    info: true,
    relax_column_count: true,
    relax_quotes: true,
    skip_empty_lines: true,
    skip_records_with_error: true,
    max_record_size: options.maxDocumentBytes,
    on_skip: (error) => {
      if (error !== undefined) onSkip(error);
    },
  });
}

/** Whether parsing cannot continue: after a record that is too long, the parser is in the middle of it. */
function isFatal(error: CsvError): boolean {
  return error.code === "CSV_MAX_RECORD_SIZE";
}

function rejectOf(error: CsvError, file: string, line: number, options: CsvOptions): SourceItem {
  const [reason, detail]: [RejectReason, string] = isFatal(error)
    ? [
        "too_long",
        `the row has more bytes than the ${options.maxDocumentBytes} that --max-document-bytes allows, or a quote in it is never closed; the rest of the file is not read`,
      ]
    : error.code === "CSV_QUOTE_NOT_CLOSED"
      ? ["not_csv", "a quote is opened and never closed; the rest of the file is not read"]
      : ["not_csv", error.message.toWellFormed()];
  return { kind: "reject", reject: rejectAt({ file, line }, reason, detail) };
}

function delimiterOf(head: Buffer, format: CsvOptions["format"]): string {
  if (format === "tsv") return "\t";
  const end = head.indexOf(NEWLINE);
  const header = head.toString("latin1", 0, end === -1 ? head.length : end);
  const counts = DELIMITERS.map((delimiter) => header.split(delimiter).length);
  return DELIMITERS[counts.indexOf(Math.max(...counts))]!;
}

/** Limits per row; the parser's own limit is per field. */
class RowLimits {
  readonly #name: string;
  readonly #maxBytes: number;
  #rows = 0;
  #bytes = 0;

  constructor(name: string, maxBytes: number) {
    this.#name = name;
    this.#maxBytes = maxBytes;
  }

  /**
   * @param bytes Number of bytes passed to the parser since the last check.
   * @throws FleetError `source_unreadable`
   */
  check(parser: Parser, bytes: number): void {
    const { records, empty_lines: empty, invalid_field_length: invalid } = parser.info;
    const rows = records + empty + invalid;
    this.#bytes = rows === this.#rows ? this.#bytes + bytes : 0;
    this.#rows = rows;
    const fields = (parser as unknown as { state: { record: readonly unknown[] } }).state.record.length;
    if (fields > MAX_FIELDS) throw this.#refused(`${MAX_FIELDS} fields`);
    // The delimiters and quotes around the fields may double the size.
    if (this.#bytes > 2 * this.#maxBytes + PIECE_BYTES) throw this.#refused(`${this.#maxBytes} bytes`);
  }

  #refused(most: string): FleetError {
    return new FleetError(
      "source_unreadable",
      `${this.#name} has a row of more than ${most}; nothing after it is read`,
    );
  }
}

/** Passes chunks on and ends quietly at an error, so that the parser yields its remaining rows. */
class Feed {
  readonly #chunks: AsyncIterable<Buffer>;
  readonly #check: (bytes: number) => void;
  #isStopped = false;
  fault: unknown = null;
  endsWithLine = true;

  /** @param check Called after each piece; an error that it throws ends the feed. */
  constructor(chunks: AsyncIterable<Buffer>, check: (bytes: number) => void) {
    this.#chunks = chunks;
    this.#check = check;
  }

  stop(): void {
    this.#isStopped = true;
  }

  async *chunks(): AsyncGenerator<Buffer> {
    try {
      for await (const chunk of this.#chunks) {
        for (let at = 0; at < chunk.length; at += PIECE_BYTES) {
          const piece = chunk.subarray(at, at + PIECE_BYTES);
          this.endsWithLine = piece.at(-1) === NEWLINE;
          yield piece;
          if (this.#isStopped) return;
          this.#check(piece.length);
        }
      }
    } catch (error) {
      this.fault = error;
    }
  }
}

/** Counts lines: the parser's line numbers are those of row ends, and it counts each CRLF within quotes twice. */
class LineCounter {
  #extra = 0;

  place(fields: readonly Buffer[], parserLine: number): Row {
    let breaks = 0;
    for (const field of fields) {
      for (let at = field.indexOf(NEWLINE); at !== -1; at = field.indexOf(NEWLINE, at + 1)) {
        breaks++;
        if (field[at - 1] === RETURN) this.#extra++;
      }
    }
    const lastLine = parserLine - this.#extra;
    return { fields, line: lastLine - breaks, lastLine };
  }
}
