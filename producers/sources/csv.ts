/** CSV and TSV: one document per row. */
import { rejectAt, type SourceItem } from "../../src/core/documents.ts";
import { FleetError } from "../../src/core/errors.ts";
import type { ByteSource } from "../../src/core/ports.ts";
import { firstLineEnd, RawLines } from "./csv-lines.ts";
import { type BadRow, CsvRows, type Dialect, MAX_FIELDS, type Row } from "./csv-rows.ts";
import type { Field } from "./csv-text.ts";
import { peek, plainText } from "./decode.ts";
import { type RecordOptions, toDocument } from "./record.ts";
import { resolveColumns } from "./resolve-columns.ts";
import { unreadableAt } from "./unreadable.ts";

/** Number of bytes at the start of a file that are searched for the header line, to detect the delimiter. */
const HEADER_BYTES = 64 * 1024;
const DELIMITERS = [",", ";", "\t", "|"] as const;
const QUOTE = '"';

/** The needed columns by name, each with its place in a row. */
type Columns = readonly (readonly [name: string, index: number])[];
type CsvOptions = RecordOptions & { readonly format: "csv" | "tsv" };

/**
 * Documents of the rows. The delimiter of CSV is the most frequent of comma, semicolon, tab and bar in the header. A
 * row with more or fewer fields than the header is a reject, and so is a quoted field that does not close as it should:
 * it is named by the line at which it began, and reading goes on at the next line.
 */
export async function* readCsv(source: ByteSource, options: CsvOptions): AsyncGenerator<SourceItem> {
  const reached = { line: 0 };
  try {
    const { head, chunks } = await peek(plainText(source), HEADER_BYTES);
    const dialect = dialectOf(head, options);
    const first = firstLineEnd(head, dialect.areQuotesRare ? null : dialect.quote);
    const lines = new RawLines({ maxBytes: options.maxDocumentBytes, endsAtReturn: first.isReturn });
    const rows = new CsvRows(dialect, options.maxDocumentBytes, options.columns?.length ?? null);
    const table = new Table(source.name, rows, options);
    for await (const chunk of chunks) {
      for (const line of lines.push(chunk)) {
        for (const row of rows.take(line)) yield* table.items(row);
        reached.line = rows.wholeLines(line.number);
        if (table.isRefused) return;
      }
    }
    for (const line of lines.end()) for (const row of rows.take(line)) yield* table.items(row);
    for (const row of rows.end()) yield* table.items(row);
  } catch (error) {
    const after = reached.line === 0 ? null : `after line ${reached.line}`;
    yield unreadableAt({ file: source.name, line: reached.line + 1 }, error, after);
  }
}

/** The columns of a table, and its rows as documents. */
class Table {
  readonly #name: string;
  readonly #rows: CsvRows;
  readonly #options: CsvOptions;
  #columns: Columns | null = null;
  #width = 0;
  #row = 0;
  /** Whether a column is missing, so that no row can be read. */
  isRefused = false;

  constructor(name: string, rows: CsvRows, options: CsvOptions) {
    this.#name = name;
    this.#rows = rows;
    this.#options = options;
  }

  /** @throws FleetError `source_unreadable` for a first row that is no header */
  *items(row: Row | BadRow): Generator<SourceItem> {
    if (this.isRefused) return;
    if (this.#columns === null) {
      const { columns } = this.#options;
      const refused = this.#setColumns(columns ?? headerOf(this.#name, row));
      if (refused !== null) yield refused;
      if (refused !== null || columns === undefined) return;
    }
    this.#row++;
    const item = row.kind === "bad" ? this.#refuse(row) : this.#document(row, this.#columns!);
    if (item !== null) yield item;
  }

  #setColumns(names: readonly string[]): SourceItem | null {
    const columns = names.map((name) => ({ name, type: "", isText: true }));
    const resolved = resolveColumns(this.#name, columns, this.#options);
    if ("refused" in resolved) {
      this.isRefused = true;
      return resolved.refused;
    }
    this.#columns = resolved.needed.map((name) => [name, names.indexOf(name)]);
    this.#width = names.length;
    this.#rows.expected = names.length;
    return null;
  }

  #document({ fields, count, line }: Row, columns: Columns): SourceItem | null {
    if (count !== this.#width) {
      const wanted = this.#options.columns === undefined ? `the header ${this.#width}` : `--columns ${this.#width}`;
      const detail = `the row has ${count} fields and ${wanted}${this.#hint(fields)}`;
      return this.#refuse({ kind: "bad", reason: "not_csv", line, detail });
    }
    const record = Object.fromEntries(columns.map(([name, index]) => [name, fields[index]]));
    return toDocument(record, { file: this.#name, line }, this.#options, this.#row);
  }

  /** Quotes that have no meaning were perhaps meant to have one. */
  #hint(fields: readonly Field[]): string {
    const isPlain = this.#options.quote !== QUOTE && this.#options.format === "tsv";
    const seemsQuoted = isPlain && fields.some((field) => typeof field === "string" && field.startsWith(QUOTE));
    return seemsQuoted ? `; if fields with tabs or line ends are in quotes, set --quote '"'` : "";
  }

  #refuse({ reason, detail, line }: BadRow): SourceItem {
    return { kind: "reject", reject: rejectAt({ file: this.#name, line }, reason, detail) };
  }
}

/** Names of the columns. @throws FleetError `source_unreadable` */
function headerOf(file: string, row: Row | BadRow): string[] {
  if (row.kind === "bad" || row.count > MAX_FIELDS) {
    const problem = row.kind === "bad" ? row.detail : `it has ${row.count}`;
    throw new FleetError("source_unreadable", `${file} has no header of at most ${MAX_FIELDS} fields: ${problem}`);
  }
  return row.fields.map((field) => (typeof field === "string" ? field.trim() : ""));
}

function dialectOf(head: Buffer, options: CsvOptions): Dialect {
  const delimiter = delimiterOf(head, options);
  const { format, quote, escape = null } = options;
  if (quote !== undefined) return { delimiter, quote: quote === "none" ? null : quote, escape, areQuotesRare: false };
  if (format === "csv") return { delimiter, quote: QUOTE, escape, areQuotesRare: false };
  if (escape !== null) return { delimiter, quote: null, escape, areQuotesRare: false };
  // Where every name has quotes, every field has.
  const names = (/[^\r\n]+/.exec(head.toString("latin1"))?.[0] ?? "").split(delimiter);
  return { delimiter, quote: QUOTE, escape, areQuotesRare: !names.every((name) => /^".*"$/.test(name)) };
}

function delimiterOf(head: Buffer, { format, delimiter, columns }: CsvOptions): string {
  if (delimiter !== undefined) return delimiter;
  if (format === "tsv") return "\t";
  const first = /[^\r\n]+/.exec(head.toString("latin1"))?.[0] ?? "";
  const counts = DELIMITERS.map((each) => first.split(each).length);
  const wanted = columns === undefined ? -1 : counts.indexOf(columns.length);
  return DELIMITERS[wanted === -1 ? counts.indexOf(Math.max(...counts)) : wanted]!;
}
