/**
 * Escaping of untrusted text for display: a terminal obeys control characters, and characters that change the direction of
 * the surrounding text deceive a reader. Both are shown as escapes, such as \u001b.
 */

/** C0, DEL, C1, line and paragraph separators, and every character that embeds, overrides or isolates a direction. */
// oxlint-disable-next-line no-control-regex -- control characters are what this finds
const UNSAFE = /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g;

function escaped(char: string): string {
  return `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`;
}

/** Escaped text on one line; line breaks are escaped, too. */
export function visible(text: string): string {
  return text.replace(UNSAFE, escaped);
}

/** Escaped text that keeps line breaks and tabs. JSON stays valid JSON with the same meaning. */
export function visibleLines(text: string): string {
  return text.replace(UNSAFE, (char) => (char === "\n" || char === "\t" ? char : escaped(char)));
}
