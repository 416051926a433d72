/** The chunking strategies, which differ in the boundaries at which a document is cut. */
import type { RunOptions } from "../../src/core/contracts.ts";
import type { Encoded, Tokenizer } from "../../src/core/ports.ts";
import { paragraphStarts, sentenceStarts, tokenAt, tokensAt } from "./boundaries.ts";
import { type Chunk, chunkDocument, type ChunkLimits, type Context, type Part, roomOf } from "./spans.ts";
import { markdownSections, type Section } from "./markdown.ts";

export type Chunking = RunOptions["chunking"];

const SEPARATOR = ">";
/** Maximum share of a chunk for its context; the outermost headings of a longer path are omitted. */
const MAX_CONTEXT_SHARE = 0.25;

/** Token ids of every heading, and of the separator between headings. */
export type TitleIds = ReadonlyMap<string, Int32Array>;

/** Sections of a text, for the only strategy that has any. */
export function outlineOf(text: string, chunking: Chunking): Section[] | null {
  return chunking === "markdown" ? markdownSections(text) : null;
}

/** Encodes headings apart from the text: a tokenizer that splits at white space gives the ids of the whole. */
export async function encodeTitles(outlines: readonly (Section[] | null)[], tokenizer: Tokenizer): Promise<TitleIds> {
  const titles = new Set(outlines.flatMap((outline) => outline?.flatMap(({ path }) => path) ?? []));
  if (titles.size === 0) return new Map();
  const texts = [SEPARATOR, ...titles];
  const encoded = await tokenizer.encode({ texts });
  return new Map(texts.map((text, i) => [text, encoded[i]!.ids]));
}

export function chunk(
  params: Readonly<{
    text: string;
    encoded: Encoded;
    chunking: Chunking;
    outline: readonly Section[] | null;
    titles: TitleIds;
  }> &
    ChunkLimits,
): Chunk[] {
  const { text, encoded, outline } = params;
  // A text that fits and has no headings is one chunk, whose token positions are unknown.
  if (encoded.starts.length === 0) return chunkDocument(params);
  const parts = outline === null ? null : partsOf(outline, params);
  return chunkDocument({ ...params, levels: levelsOf(text, encoded, params), ...(parts !== null && { parts }) });
}

function levelsOf(text: string, encoded: Encoded, params: Readonly<{ chunking: Chunking }> & ChunkLimits): number[][] {
  const sentences = (): number[] => tokensAt(sentenceStarts(text), text, encoded.starts);
  switch (params.chunking) {
    case "sentences":
      return [sentences()];
    case "paragraphs":
    case "markdown": {
      const paragraphs = tokensAt(paragraphStarts(text), text, encoded.starts);
      // Finding sentences takes time, and only paragraphs that are cut or partially shared need them.
      const edges = [0, ...paragraphs, encoded.ids.length];
      const isCut = edges.some((edge, i) => i > 0 && edge - edges[i - 1]! > roomOf(params) / 2);
      return isCut || params.overlap > 0 ? [paragraphs, sentences()] : [paragraphs];
    }
    default:
      return [];
  }
}

function partsOf(
  outline: readonly Section[],
  params: Readonly<{ text: string; encoded: Encoded; titles: TitleIds }> & ChunkLimits,
): Part[] {
  const { text, encoded, titles } = params;
  const tokens = encoded.ids.length;
  const maxIds = Math.floor(roomOf(params) * MAX_CONTEXT_SHARE);
  const parts: Part[] = [];
  outline.forEach(({ start, above, path }) => {
    const at = start === 0 ? 0 : tokenAt(start, text, encoded.starts);
    if (at >= tokens || (parts.length > 0 && at <= parts.at(-1)!.start)) return;
    const first = contextOf(above, titles, maxIds);
    const later = contextOf(path, titles, maxIds);
    const last = parts.at(-1);
    if (last !== undefined) parts[parts.length - 1] = { ...last, end: at };
    parts.push({ start: at, end: tokens, first, later });
  });
  return parts;
}

function contextOf(path: readonly string[], titles: TitleIds, maxIds: number): Context | null {
  const separator = titles.get(SEPARATOR)!;
  for (let from = 0; from < path.length; from++) {
    const shown = path.slice(from).filter((title) => title !== "");
    const count = shown.reduce((sum, title) => sum + separator.length + titles.get(title)!.length, -separator.length);
    // Counted first: building a context that is then omitted takes time for each section under its headings.
    if (count <= 0 || count > maxIds) continue;
    const ids = shown.flatMap((title, i) => [...(i === 0 ? [] : separator), ...titles.get(title)!]);
    return { text: shown.join(` ${SEPARATOR} `), ids: Int32Array.from(ids) };
  }
  return null;
}
