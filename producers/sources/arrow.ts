/** Documents of Arrow IPC files and streams, batch by batch. */
import { type ArrowField, nameOf } from "../../src/arrow/foreign-metadata.ts";
import type { SourceItem } from "../../src/core/documents.ts";
import { FleetError } from "../../src/core/errors.ts";
import type { ByteSource } from "../../src/core/ports.ts";
import { Dictionaries, isReadableField, readColumns } from "./arrow-batch.ts";
import { type Message, readMessages } from "./arrow-messages.ts";
import type { ValueReader } from "./arrow-values.ts";
import { TextBudget } from "./expansion.ts";
import { type RecordOptions, toDocument } from "./record.ts";
import { type ColumnInfo, resolveColumns } from "./resolve-columns.ts";
import { damageOf, unreadableAt } from "./unreadable.ts";

/** The columns that are read of a file or stream, and the dictionaries so far. */
interface Table {
  readonly fields: readonly ArrowField[];
  readonly names: readonly string[];
  readonly dictionaries: Dictionaries;
}

/** Documents of all batches. A damaged batch is one reject that names its rows; the batches after it are read. */
export async function* readArrow(source: ByteSource, options: RecordOptions): AsyncGenerator<SourceItem> {
  let row = 0;
  let table: Table | null = null;
  const budget = new TextBudget(source.bytes ?? Infinity);
  try {
    for await (const message of readMessages(source)) {
      if (message.kind === "schema") {
        const opened = openTable(source.name, message.fields, options);
        if ("refused" in opened) {
          yield opened.refused;
          return;
        }
        table = opened;
        continue;
      }
      if (table === null) throw new FleetError("source_unreadable", `${source.name} is damaged: it has no schema`);
      if (message.kind === "dictionary") {
        table.dictionaries.add(message);
        continue;
      }
      const first = row + 1;
      row += message.rows;
      yield* readBatch({ source, message, table, first, budget, options });
    }
  } catch (error) {
    yield unreadableAt({ file: source.name, line: row + 1 }, error, row === 0 ? null : `after row ${row}`);
  }
}

function openTable(
  name: string,
  fields: readonly ArrowField[],
  options: RecordOptions,
): Table | { readonly refused: SourceItem } {
  const resolved = resolveColumns(name, fields.map(columnOf), options);
  if ("refused" in resolved) return resolved;
  return { fields, names: resolved.needed, dictionaries: new Dictionaries(name, fields) };
}

function columnOf(field: ArrowField): ColumnInfo {
  return {
    name: field.name,
    type: nameOf(field),
    isText: isText(field),
    ...(!isReadableField(field) && { unreadable: "cannot be read; write it as another type" }),
  };
}

/** Text, binary, which some writers have for text, and lists of either. */
function isText({ type, children }: ArrowField): boolean {
  if (type.kind === "list" || type.kind === "fixed-size list") return children.length === 1 && isText(children[0]!);
  return type.kind === "text" || type.kind === "binary";
}

async function* readBatch(
  params: Readonly<{
    source: ByteSource;
    message: Message & { readonly kind: "batch" };
    table: Table;
    /** Number of the first row. */
    first: number;
    budget: TextBudget;
    options: RecordOptions;
  }>,
): AsyncGenerator<SourceItem> {
  const { source, message, table, first, budget, options } = params;
  let at = first;
  try {
    const readers = readColumns({ message, ...table });
    for (let row = 0; row < message.rows; row++) {
      const item = toDocument(recordAt(table.names, readers, row), { file: source.name, line: at }, options);
      budget.take(item?.kind === "document" ? item.document.text.length : 0);
      at++;
      if (item !== null) yield item;
    }
  } catch (error) {
    const lost = `rows ${at} to ${first + message.rows - 1}`;
    yield unreadableAt({ file: source.name, line: at }, damageOf(source.name, error), lost);
  }
}

/** Records are made one at a time: all at once they take many times the memory of their columns. */
function recordAt(names: readonly string[], readers: readonly ValueReader[], row: number): Record<string, unknown> {
  const record: Record<string, unknown> = {};
  for (let i = 0; i < names.length; i++) record[names[i]!] = readers[i]!(row);
  return record;
}
