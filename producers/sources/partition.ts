/** Values of a partition, which are in the names of folders and not in the files: `lang=en/year=2026/part-0.parquet`. */

/** Values of a partition by column; null for rows without a value. */
export type TableFields = Readonly<Record<string, string | null>>;

/** How Hive, Spark and others name the folder of rows without a value. */
const NULL = "__HIVE_DEFAULT_PARTITION__";

/** The fields that the folders of a path give to every document in it; null for none. */
export function partitionOf(path: string): TableFields | null {
  const folders = path.split(/[/\\]/).slice(0, -1);
  const fields = folders.flatMap((folder) => {
    const at = folder.indexOf("=");
    if (at <= 0) return [];
    const value = decoded(folder.slice(at + 1));
    return [[decoded(folder.slice(0, at)), value === NULL ? null : value] as const];
  });
  return fields.length === 0 ? null : Object.fromEntries(fields);
}

/** A record's own fields take precedence, as a file may hold the column as well. */
export function withPartition(record: object, fields: TableFields | null | undefined): object {
  if (fields === null || fields === undefined) return record;
  const own = Object.entries(record);
  return Object.fromEntries([...Object.entries(fields), ...own]);
}

/** Names are percent-encoded where a file system would not take them; others may hold a percent sign as it is. */
function decoded(name: string): string {
  try {
    return decodeURIComponent(name);
  } catch {
    return name;
  }
}
