/** Cuts a tokenised document into chunks. Pure. */
import { FleetError } from "../../src/core/errors.ts";
import type { Encoded } from "../../src/core/ports.ts";

export interface Chunk {
  /** Token ids, special tokens included. */
  readonly ids: Int32Array;
  /** UTF-16 code units of the document's text. */
  readonly charStart: number;
  readonly charEnd: number;
  /** Text that the model receives: the span's own text, after its context if there is one. */
  readonly text: string;
}

/** Tokens `start` to `end` of a document, special tokens not counted. */
export interface TokenSpan {
  readonly start: number;
  readonly end: number;
}

export interface ChunkLimits {
  /** Maximum tokens of a chunk, special tokens included. */
  readonly maxTokens: number;
  /** Tokens that a chunk shares with the previous one. */
  readonly overlap: number;
  readonly prefixIds: readonly number[];
  readonly suffixIds: readonly number[];
}

/** Maximum number of the document's own tokens in one chunk. */
export function roomOf(limits: ChunkLimits): number {
  return limits.maxTokens - limits.prefixIds.length - limits.suffixIds.length;
}

/** @throws FleetError `bad_usage` when chunks with these limits could not advance. */
export function assertChunkLimits(limits: ChunkLimits): void {
  const room = roomOf(limits);
  if (room >= 1 && limits.overlap >= 0 && limits.overlap < room) return;
  const specials = limits.maxTokens - room;
  throw new FleetError(
    "bad_usage",
    `chunks of ${limits.maxTokens} tokens, ${specials} of them special, cannot overlap by ${limits.overlap}`,
    { cure: `choose --overlap from 0 to ${Math.max(room - 1, 0)}, or a larger --max-tokens` },
  );
}

/**
 * Spans of at most `room` tokens. Each ends at the last boundary of the first level that has one in reach, else
 * between any two tokens, and the next begins as many tokens before that end as `overlap` allows, at a boundary
 * of the last level if there is one. Without levels these are equal windows, the last one shorter.
 *
 * @param params.levels Token indices, ascending; preferred boundaries first.
 */
export function cutSpans(
  params: Readonly<{
    start: number;
    end: number;
    room: number;
    overlap: number;
    levels: readonly (readonly number[])[];
  }>,
): TokenSpan[] {
  const { end, room, overlap, levels } = params;
  const spans: TokenSpan[] = [];
  let { start } = params;
  let reached = start;
  while (end - start > room) {
    const limit = start + room;
    const place = lastPlace(levels, reached, limit);
    const cut = place ?? limit;
    spans.push({ start, end: cut });
    const shared = firstPlace(levels.at(-1) ?? [], Math.max(cut - overlap, start + 1), cut);
    start = shared ?? (place === null ? cut - overlap : cut);
    reached = cut;
  }
  spans.push({ start, end });
  return spans;
}

/** The last boundary in (after, upTo], of the first level that has one. */
function lastPlace(levels: readonly (readonly number[])[], after: number, upTo: number): number | null {
  for (const places of levels) {
    const place = places[countBelow(places, upTo + 1) - 1];
    if (place !== undefined && place > after) return place;
  }
  return null;
}

/** The first in [from, before). */
function firstPlace(places: readonly number[], from: number, before: number): number | null {
  const place = places[countBelow(places, from)];
  return place !== undefined && place < before ? place : null;
}

function countBelow(places: readonly number[], limit: number): number {
  let low = 0;
  let high = places.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (places[middle]! < limit) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The headings above a chunk, which precede its text for the model. */
export interface Context {
  readonly text: string;
  readonly ids: Int32Array;
}

/** A section of a document that is cut by itself. */
export interface Part {
  readonly start: number;
  readonly end: number;
  /** Context of its first chunk, and of those that follow. */
  readonly first: Context | null;
  readonly later: Context | null;
}

/**
 * A chunk's text runs from the start of its first token to the start of the first token after it;
 * the first chunk begins with the text and the last ends with it. So without overlap the chunks'
 * texts, contexts aside, concatenate to the document, whatever the tokenizer skipped.
 *
 * @param params.encoded Tokens without special tokens; `starts` may be empty when everything fits.
 * @param params.parts Token ranges that together cover the document. Default: one.
 */
export function chunkDocument(
  params: Readonly<{
    text: string;
    encoded: Encoded;
    parts?: readonly Part[];
    levels?: readonly (readonly number[])[];
  }> &
    ChunkLimits,
): Chunk[] {
  const { text, encoded, overlap, levels = [] } = params;
  assertChunkLimits(params);
  const tokens = encoded.ids.length;
  const parts = params.parts ?? [{ start: 0, end: tokens, first: null, later: null }];
  const pieces = parts.flatMap(({ start, end, first, later }) => {
    const room = roomOf(params) - Math.max(first?.ids.length ?? 0, later?.ids.length ?? 0);
    const spans = cutSpans({ start, end, room, overlap: Math.min(overlap, room - 1), levels });
    return spans.map((span, i) => ({ span, context: i === 0 ? first : later }));
  });
  if (pieces.length > 1 && encoded.starts.length !== tokens) {
    throw new Error(`a text of ${tokens} tokens came with ${encoded.starts.length} positions`);
  }
  return pieces.map(({ span: { start, end }, context }) => {
    const charStart = start === 0 ? 0 : encoded.starts[start]!;
    const charEnd = end === tokens ? text.length : encoded.starts[end]!;
    const own = text.slice(charStart, charEnd);
    return {
      ids: withSpecials(encoded.ids.subarray(start, end), context, params),
      charStart,
      charEnd,
      text: context === null ? own : `${context.text}\n\n${own}`,
    };
  });
}

function withSpecials(ids: Int32Array, context: Context | null, limits: ChunkLimits): Int32Array {
  const parts = [limits.prefixIds, context?.ids ?? [], ids, limits.suffixIds];
  const framed = new Int32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    framed.set(part, at);
    at += part.length;
  }
  return framed;
}
