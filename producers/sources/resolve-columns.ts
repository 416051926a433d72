/** Checks requested fields against the schema of a format that has one, once, before a row is read. */
import { rejectAt, type SourceItem } from "../../src/core/documents.ts";
import { neededFields, type RecordOptions } from "./record.ts";

export interface ColumnInfo {
  readonly name: string;
  /** The type's name in the format. */
  readonly type: string;
  readonly isText: boolean;
  /** Why it cannot be read, and what to do; such a column does not matter as long as it is not asked for. */
  readonly unreadable?: string;
}

const SHOWN_COLUMNS = 50;

/** The top-level columns that contain the fields, each once; or the reject of the whole object. */
export function resolveColumns(
  name: string,
  columns: readonly ColumnInfo[],
  options: RecordOptions,
): { readonly needed: readonly string[] } | { readonly refused: SourceItem } {
  const byName = new Map(columns.map((column) => [column.name, column]));
  const refuse = (detail: string): { refused: SourceItem } => ({
    refused: { kind: "reject", reject: rejectAt({ file: name }, "no_column", detail) },
  });
  const needed = new Set<string>();
  for (const field of neededFields(options)) {
    // A column whose own name contains the dots takes precedence.
    const top = byName.has(field) ? field : field.split(".")[0]!;
    const column = byName.get(top);
    if (column === undefined && Object.hasOwn(options.partition ?? {}, top)) continue;
    // An id that is made needs no column.
    if (column === undefined && field === options.idField && options.generateId !== undefined) continue;
    if (column === undefined) return refuse(`has no column ${field}; its columns are ${listed(columns)}`);
    if (column.unreadable !== undefined)
      return refuse(`has a column ${top} of type ${column.type}, which ${column.unreadable}`);
    needed.add(top);
  }
  for (const field of options.textFields) {
    const column = byName.get(field);
    if (column !== undefined && !column.isText)
      return refuse(
        `has a column ${field} of type ${column.type}, which is not text; its columns are ${listed(columns)}`,
      );
  }
  return { needed: [...needed] };
}

function listed(columns: readonly ColumnInfo[]): string {
  if (columns.length === 0) return "none";
  const shown = columns.slice(0, SHOWN_COLUMNS).map(({ name, type }) => (type === "" ? name : `${name} (${type})`));
  const more = columns.length > SHOWN_COLUMNS ? ` and ${columns.length - SHOWN_COLUMNS} more` : "";
  return `${shown.join(", ")}${more}`.toWellFormed();
}
