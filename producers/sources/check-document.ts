/** Checks a document's id and text before it is tokenised. */
import { MAX_ID_CHARS } from "../../src/core/contracts.ts";
import { type Origin, rejectAt, type SourceItem } from "../../src/core/documents.ts";
import type { Selection } from "../../src/core/selection.ts";

type Clean = Selection["clean"];

const REPLACEMENT = "\uFFFD";

/** @param clean Which characters are replaced in the text. Ids are never changed: two could become the same. */
export function checkDocument(id: string, given: string, origin: Origin, clean?: Clean): SourceItem {
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
  const { text, replaced } = cleaned(given, clean);
  if (!text.isWellFormed())
    return refuse("lone_surrogate", "the text holds half of a surrogate pair; --clean all replaces it");
  if (clean === "none" && text.includes("\0"))
    return refuse("nul_character", `the text holds a NUL character at position ${text.indexOf("\0")}`);
  if (text.trim() === "") return refuse("empty_text", "the text is empty or only white space");
  return { kind: "document", document: { id, text, origin }, ...(replaced > 0 && { replaced }) };
}

/** The text with U+FFFD for characters that no text has, each for one, so that no position moves; and their number. */
export function cleaned(text: string, clean: Clean = "nul"): { readonly text: string; readonly replaced: number } {
  const hasNul = clean !== "none" && text.includes("\0");
  const hasHalf = clean === "all" && !text.isWellFormed();
  if (!hasNul && !hasHalf) return { text, replaced: 0 };
  const whole = hasHalf ? text.toWellFormed() : text;
  const replacedText = hasNul ? whole.replaceAll("\0", REPLACEMENT) : whole;
  let replaced = 0;
  for (let i = 0; i < text.length; i++) if (replacedText.charCodeAt(i) !== text.charCodeAt(i)) replaced++;
  // A text of nothing else is as good as empty.
  return { text: replacedText.replaceAll(REPLACEMENT, "").trim() === "" ? "" : replacedText, replaced };
}
