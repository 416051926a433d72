/** Which of a corpus's documents are taken. */
import { hash } from "node:crypto";
import type { SourceItem } from "../../src/core/documents.ts";
import { FleetError } from "../../src/core/errors.ts";

/** By the id alone, so that the same documents are chosen whatever file they are in and whoever reads it. */
export function isSampled(id: string, fraction: number): boolean {
  if (fraction === 1) return true;
  return hash("sha256", id, "buffer").readUIntBE(0, 6) < fraction * 2 ** 48;
}

/**
 * Ends after `limit` documents; rejects do not count.
 *
 * @throws FleetError `bad_usage` when a column is missing before any document was read: a wrong name, most likely.
 */
export async function* selectItems<T extends SourceItem>(
  items: AsyncIterable<T>,
  limit: number | null,
): AsyncGenerator<T> {
  let documents = 0;
  for await (const item of items) {
    if (item.kind === "document") documents++;
    else if (item.reject.reason === "no_column" && documents === 0) throw wrongColumn(item);
    yield item;
    if (documents === limit) return;
  }
}

function wrongColumn({ reject }: SourceItem & { kind: "reject" }): FleetError {
  return new FleetError("bad_usage", `${reject.file} ${reject.detail}`, {
    cure: "name columns that are there with --id-field, --text-field, --where and --keep",
  });
}
