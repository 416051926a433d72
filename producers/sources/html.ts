/** Extracts the text that a reader of an HTML page sees. */
import { isUtf8 } from "node:buffer";
import { parsePage } from "./html-tree.ts";

/** Number of bytes in which a declaration of the charset is looked for: more than the standard's, as browsers do. */
const CHARSET_BYTES = 8 * 1024;
/** Labels of windows-1252 by https://encoding.spec.whatwg.org; pages that say ASCII or Latin-1 mean it as well. */
const WINDOWS_1252 = new Set(
  "ansi_x3.4-1968 ascii cp1252 cp819 csisolatin1 ibm819 iso-8859-1 iso-ir-100 iso8859-1 iso88591 iso_8859-1 iso_8859-1:1987 l1 latin1 us-ascii windows-1252 x-cp1252 x-user-defined".split(
    " ",
  ),
);
/** Characters of the bytes 0x80 to 0x9f in windows-1252; a byte without one is the control character of its number. */
const C1 = "€\u0081‚ƒ„…†‡ˆ‰Š‹Œ\u008dŽ\u008f\u0090‘’“”•–—˜™š›œ\u009džŸ";

/**
 * The title, a blank line, and the page's text: white space as a browser collapses it, entities decoded.
 *
 * @param said Charset from elsewhere, such as an HTTP header.
 * @returns Null when the bytes are neither UTF-8 nor in the encoding that the page declares.
 * @throws FleetError `source_unreadable` for elements that are nested too deep
 */
export function htmlText(bytes: Buffer, said: string | null = null): string | null {
  const html = decode(bytes, said);
  if (html === null) return null;
  const page = parsePage(html);
  const title = page.title.replaceAll(/\s+/g, " ").trim();
  const body = page.body.trim();
  return title === "" || body === title || body.startsWith(`${title}\n`) ? body : `${title}\n\n${body}`.trim();
}

function decode(bytes: Buffer, said: string | null): string | null {
  const charset = (said ?? declaredIn(bytes.toString("latin1", 0, CHARSET_BYTES)))?.toLowerCase();
  // Bytes that happen to be UTF-8 nearly always are, whatever is declared. Only this encoding hides in ASCII.
  if (isUtf8(bytes) && charset !== "iso-2022-jp") return bytes.toString("utf8");
  if (charset === undefined) return null;
  if (WINDOWS_1252.has(charset)) return fromWindows1252(bytes);
  try {
    return new TextDecoder(charset, { fatal: true }).decode(bytes);
  } catch {
    return null;
  }
}

function declaredIn(head: string): string | undefined {
  const markup = head.replaceAll(/<!--[^]*?-->/g, "");
  return (
    /<meta[^>]+charset\s*=\s*["']?\s*([\w:.-]+)/i.exec(markup)?.[1] ??
    /^\s*<\?xml[^>]+encoding\s*=\s*["']([\w:.-]+)/i.exec(markup)?.[1]
  );
}

/** Releases of Node.js decode this encoding as Latin-1, which has control characters in place of quotes and the euro. */
function fromWindows1252(bytes: Buffer): string {
  return bytes.toString("latin1").replaceAll(/[\u0080-\u009f]/g, (byte) => C1[byte.charCodeAt(0) - 0x80]!);
}
