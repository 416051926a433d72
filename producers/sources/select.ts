/** Selects documents of a corpus. */
import { hash } from "node:crypto";
import type { SourceItem } from "../../src/core/documents.ts";
import { FleetError } from "../../src/core/errors.ts";

/** Depends only on the id, so that the same documents are chosen in any file and by any reader. */
export function isSampled(id: string, fraction: number): boolean {
  if (fraction === 1) return true;
  return hash("sha256", id, "buffer").readUIntBE(0, 6) < fraction * 2 ** 48;
}

/**
 * Ends after `limit` documents; rejects do not count.
 *
 * @throws FleetError `bad_usage` for a missing column before any document was read: probably a wrong name.
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
    cure: "name existing columns with --id-field, --text-field, --where and --keep",
  });
}
