/** Turns faults of reading a corpus object into rejects, or lets them end the run. */
import { type Origin, rejectAt, type SourceItem } from "../../src/core/documents.ts";
import { FleetError, hasCode, messageOf } from "../../src/core/errors.ts";

/**
 * The reject of an object that is damaged, gone or forbidden: the rest of the corpus is read. Of a server that
 * cannot be reached and of a corpus that changes, every other object would fail too, and the run ends.
 *
 * @param reached How far the reading came, as in `after line 7`; null at the very beginning.
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

/** A library's verdict on the bytes it was given, as a fault of the object; a fault of reading them stays one. */
export function damageOf(name: string, error: unknown): FleetError {
  if (error instanceof FleetError) return error;
  return new FleetError("source_unreadable", `${name} is damaged: ${messageOf(error)}`, { cause: error });
}
