/** HTML and SVG as text, with all inserted values escaped. */
import { visibleLines } from "../core/visible.ts";

/** Text that is already markup. */
export class Markup {
  readonly text: string;

  constructor(text: string) {
    this.text = text;
  }
}

export type Part = Markup | string | number | null | readonly Part[];

/** Template tag, `` html`<td>${value}</td>` ``: values are escaped unless they are markup. */
export function html(strings: TemplateStringsArray, ...parts: readonly Part[]): Markup {
  return new Markup(strings.reduce((text, piece, i) => text + (i === 0 ? "" : textOf(parts[i - 1]!)) + piece, ""));
}

function textOf(part: Part): string {
  if (part === null) return "";
  if (part instanceof Markup) return part.text;
  if (typeof part === "object") return part.map(textOf).join("");
  return escapeText(String(part));
}

function escapeText(text: string): string {
  return visibleLines(text).replace(/[&<>"']/g, (char) => `&#${char.charCodeAt(0)};`);
}

/** JSON that is safe inside a script element. */
export function jsonMarkup(value: unknown): Markup {
  return new Markup(visibleLines(JSON.stringify(value, null, 1)).replaceAll("<", "\\u003c"));
}
