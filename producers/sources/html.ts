/** Extracts the text that a reader of an HTML page sees. */
import { isUtf8 } from "node:buffer";
import { Parser } from "htmlparser2";
import { FleetError } from "../../src/core/errors.ts";

/** Elements whose content is not part of the text. `nav` repeats on every page of a site. */
const UNSEEN = new Set(["head", "iframe", "nav", "noscript", "object", "script", "style", "svg", "template"]);
/** Elements that begin and end a paragraph, and those for a line. */
const PARAGRAPHS = new Set(
  "address article aside blockquote dl fieldset figure footer form h1 h2 h3 h4 h5 h6 header hr main ol p pre section table ul".split(
    " ",
  ),
);
const LINES = new Set("br caption dd div dt figcaption legend li option summary tr".split(" "));
const CELLS = new Set(["td", "th"]);
/**
 * Maximum depth, four times that of browsers. The parser checks all open elements at every tag, so deeper ones would
 * cost time quadratic in the size of the page.
 */
const MAX_DEPTH = 2048;
/** Number of bytes in which a declaration of the charset may be, by the standard. */
const CHARSET_BYTES = 1024;

/**
 * The title, a blank line, and the page's text: white space as a browser collapses it, entities decoded.
 * @returns Null when the bytes are neither UTF-8 nor in the encoding that the page declares.
 * @throws FleetError `source_unreadable` for elements that are nested too deep
 */
export function htmlText(bytes: Buffer): string | null {
  const html = decode(bytes);
  if (html === null) return null;
  const page = new Page();
  const parser = new Parser(page);
  parser.end(html);
  return page.text();
}

function decode(bytes: Buffer): string | null {
  if (isUtf8(bytes)) return bytes.toString("utf8");
  const head = bytes.toString("latin1", 0, CHARSET_BYTES);
  const charset = /<meta[^>]+charset\s*=\s*["']?\s*([\w-]+)/i.exec(head)?.[1];
  if (charset === undefined) return null;
  try {
    return new TextDecoder(charset, { fatal: true }).decode(bytes);
  } catch {
    return null;
  }
}

class Page {
  readonly #parts: string[] = [];
  #title = "";
  #depth = 0;
  #isInTitle = false;
  /** Number of elements open since the outermost unseen one, itself included. */
  #unseen = 0;
  #preformatted = 0;
  /** White space before the next word: none, a space, or the end of a line or a paragraph. */
  #gap: "" | " " | "\n" | "\n\n" = "";

  onopentag(name: string, attributes: Readonly<Record<string, string>>): void {
    if (++this.#depth > MAX_DEPTH)
      throw new FleetError("source_unreadable", `the page nests more than ${MAX_DEPTH} elements`, {
        cure: "close its elements, or write it as text",
      });
    if (name === "title") this.#isInTitle = this.#title === "";
    if (this.#unseen > 0 || UNSEEN.has(name) || isHidden(attributes)) this.#unseen++;
    else {
      this.#breakAt(name);
      if (name === "pre") this.#preformatted++;
    }
  }

  onclosetag(name: string): void {
    this.#depth--;
    if (name === "title") this.#isInTitle = false;
    if (this.#unseen > 0) this.#unseen--;
    else {
      this.#breakAt(name);
      if (name === "pre" && this.#preformatted > 0) this.#preformatted--;
    }
  }

  ontext(text: string): void {
    if (this.#isInTitle) this.#title += text;
    else if (this.#unseen > 0) return;
    else if (this.#preformatted > 0) this.#append(text);
    else {
      // The no-break space is kept, because an author wrote it.
      const words = text.split(/[ \t\r\n\f]+/);
      words.forEach((word, i) => {
        if (i > 0) this.#widen(" ");
        if (word !== "") this.#append(word);
      });
    }
  }

  text(): string {
    const title = this.#title.replaceAll(/\s+/g, " ").trim();
    const body = this.#parts.join("").trim();
    return title === "" || body === title || body.startsWith(`${title}\n`) ? body : `${title}\n\n${body}`.trim();
  }

  #breakAt(name: string): void {
    if (PARAGRAPHS.has(name)) this.#widen("\n\n");
    else if (LINES.has(name)) this.#widen("\n");
    else if (CELLS.has(name)) this.#widen(" ");
  }

  #widen(gap: " " | "\n" | "\n\n"): void {
    if (gap === " " ? this.#gap === "" : gap.length > this.#gap.length || this.#gap === " ") this.#gap = gap;
  }

  #append(text: string): void {
    if (this.#parts.length > 0) this.#parts.push(this.#gap);
    this.#gap = "";
    this.#parts.push(text);
  }
}

function isHidden(attributes: Readonly<Record<string, string>>): boolean {
  const { hidden, style = "" } = attributes;
  return (
    hidden !== undefined ||
    attributes["aria-hidden"] === "true" ||
    /(?:^|;)\s*(?:display\s*:\s*none|visibility\s*:\s*hidden)/i.test(style)
  );
}
