/** Checks a document's id and text before it is tokenised. */
import { MAX_ID_CHARS } from "../../src/core/contracts.ts";
import { type Origin, rejectAt, type SourceItem } from "../../src/core/documents.ts";

export function checkDocument(id: string, text: string, origin: Origin): SourceItem {
  const refuse = (reason: Parameters<typeof rejectAt>[1], detail: string, knownId: string | null = id): SourceItem => ({
    kind: "reject",
    reject: rejectAt(origin, reason, detail, knownId),
  });
  if (id === "") return refuse("no_id", "the id is empty", null);
  if (id.length > MAX_ID_CHARS) {
    return refuse(
      "id_too_long",
      `the id has ${id.length} characters; at most ${MAX_ID_CHARS} are allowed`,
      id.slice(0, 64).toWellFormed(),
    );
  }
  if (!id.isWellFormed()) return refuse("lone_surrogate", "the id holds half of a surrogate pair", id.toWellFormed());
  if (id.includes("\0")) return refuse("nul_character", "the id holds a NUL character");
  if (!text.isWellFormed()) return refuse("lone_surrogate", "the text holds half of a surrogate pair");
  if (text.includes("\0"))
    return refuse("nul_character", `the text holds a NUL character at position ${text.indexOf("\0")}`);
  if (text.trim() === "") return refuse("empty_text", "the text is empty or only white space");
  return { kind: "document", document: { id, text, origin } };
}
