/** Splits a Markdown text into sections, each with its headings. */
import MarkdownIt from "markdown-it";

export interface Section {
  /** UTF-16 code unit at which it begins, heading included. */
  readonly start: number;
  /** The headings above its own, outermost first. */
  readonly above: readonly string[];
  /** The headings above and its own, which later chunks of the section receive as context. */
  readonly path: readonly string[];
}

interface Heading {
  readonly start: number;
  /** Start of the text under it. */
  readonly bodyStart: number;
  readonly level: number;
  readonly title: string;
}

const FRONT_MATTER = /^---\r?\n.*?\r?\n---(?:\r?\n|$)/s;
const markdown = new MarkdownIt("commonmark");
// Only block rules: inline content is irrelevant here and takes most of the time.
markdown.core.ruler.enableOnly(["normalize", "block"]);

/** @returns Sections that cover the text; a heading with nothing under it is part of the next section. */
export function markdownSections(text: string): Section[] {
  const headings = headingsOf(text);
  const sections: Section[] = [{ start: 0, above: [], path: [] }];
  const open: Heading[] = [];
  headings.forEach((heading, i) => {
    while (open.length > 0 && open.at(-1)!.level >= heading.level) open.pop();
    const above = open.map(({ title }) => title);
    open.push(heading);
    const path = open.map(({ title }) => title);
    const textBefore = text.slice(headings[i - 1]?.bodyStart ?? 0, heading.start);
    const last = sections.at(-1)!;
    if (textBefore.trim() !== "") sections.push({ start: heading.start, above, path });
    else sections[sections.length - 1] = { start: last.start, above: i === 0 ? above : last.above, path };
  });
  return sections;
}

function headingsOf(text: string): Heading[] {
  const bodyStart = FRONT_MATTER.exec(text)?.[0].length ?? 0;
  const tokens = markdown.parse(text.slice(bodyStart), {});
  const lines = lineStarts(text, bodyStart);
  return tokens.flatMap((token, i): Heading[] => {
    // Headings within quotes and lists do not start sections.
    if (token.type !== "heading_open" || token.level !== 0 || token.map === null) return [];
    const [first, end] = token.map;
    const title = (tokens[i + 1]?.content ?? "").replaceAll(/\s+/g, " ").trim();
    return [{ start: lines[first]!, bodyStart: lines[end] ?? text.length, level: Number(token.tag.slice(1)), title }];
  });
}

/** Start positions of lines, counted like the parser does: after CRLF, CR or LF. */
function lineStarts(text: string, from: number): number[] {
  const starts = [from];
  const ends = /\r\n?|\n/g;
  ends.lastIndex = from;
  for (let match = ends.exec(text); match !== null; match = ends.exec(text)) starts.push(ends.lastIndex);
  return starts;
}
