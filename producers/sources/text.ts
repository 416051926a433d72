/** A text or Markdown file: one document. */
import { isUtf8 } from "node:buffer";
import { open } from "node:fs/promises";
import { type Origin, rejectAt, type SourceItem } from "../../src/core/documents.ts";
import { messageOf } from "../../src/core/errors.ts";
import { checkDocument } from "./check-document.ts";

/** @param name The document's id, and its place in rejects. */
export async function readTextFile(
  file: Readonly<{ path: string; name: string; id: string }>,
  maxDocumentBytes: number,
): Promise<SourceItem> {
  const origin: Origin = { file: file.name };
  try {
    const handle = await open(file.path);
    try {
      const { size } = await handle.stat();
      if (size > maxDocumentBytes) {
        const detail = `the file has ${size} bytes; --max-document-bytes allows ${maxDocumentBytes}`;
        return { kind: "reject", reject: rejectAt(origin, "too_long", detail, file.id) };
      }
      const bytes = await handle.readFile();
      if (!isUtf8(bytes))
        return { kind: "reject", reject: rejectAt(origin, "invalid_utf8", "the file is not valid UTF-8", file.id) };
      return checkDocument(file.id, bytes.toString("utf8").replace(/^\uFEFF/, ""), origin);
    } finally {
      await handle.close();
    }
  } catch (error) {
    return { kind: "reject", reject: rejectAt(origin, "unreadable", messageOf(error), file.id) };
  }
}
