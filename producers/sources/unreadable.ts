/** Converts errors of reading a corpus object to rejects, or lets them end the run. */
import { type Origin, rejectAt, type SourceItem } from "../../src/core/documents.ts";
import { FleetError, hasCode, messageOf } from "../../src/core/errors.ts";

/**
 * The reject of an object that is damaged, missing or forbidden: the rest of the corpus is read. For an unreachable
 * server or a changing corpus, every other object would fail too, and the run ends.
 *
 * @param reached How far reading got, as in `after line 7`; null at the very beginning.
 * @throws `error`, unless it is `source_unreadable` or `source_missing`.
 */
export function unreadableAt(
  origin: Origin,
  error: unknown,
  reached: string | null,
  id: string | null = null,
): SourceItem {
  if (!hasCode(error, "source_unreadable") && !hasCode(error, "source_missing")) throw error;
  const detail = reached === null ? error.message : `${reached}: ${error.message}`;
  return { kind: "reject", reject: rejectAt(origin, "unreadable", detail, id) };
}

/** Wraps a library's error about an object's bytes as damage; an error of reading them is returned as it is. */
export function damageOf(name: string, error: unknown): FleetError {
  if (error instanceof FleetError) return error;
  return new FleetError("source_unreadable", `${name} is damaged: ${messageOf(error)}`, { cause: error });
}
