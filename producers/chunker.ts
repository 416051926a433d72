/** Cuts a tokenised document into chunks. Pure. */
import { FleetError } from "../src/core/errors.ts";
import type { Encoded } from "../src/core/ports.ts";

export interface Chunk {
  /** Special tokens included. */
  readonly ids: Int32Array;
  /** UTF-16 code units of the document's text. */
  readonly charStart: number;
  readonly charEnd: number;
  readonly text: string;
}

/** Tokens `start` to `end` of a document, special tokens not counted. */
export interface TokenSpan {
  readonly start: number;
  readonly end: number;
}

export interface ChunkLimits {
  /** Of a chunk, special tokens included. */
  readonly maxTokens: number;
  /** Tokens that a chunk shares with the one before it. */
  readonly overlap: number;
  readonly prefixIds: readonly number[];
  readonly suffixIds: readonly number[];
}

/** Tokens of the document itself that fit into one chunk. */
export function roomOf(limits: ChunkLimits): number {
  return limits.maxTokens - limits.prefixIds.length - limits.suffixIds.length;
}

/** @throws FleetError `bad_usage` when chunks of these limits could not advance. */
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

/** The whole strategy: equal windows over the tokens, the last one shorter. */
export function tokenWindows(params: Readonly<{ tokens: number; room: number; overlap: number }>): TokenSpan[] {
  const { tokens, room, overlap } = params;
  const spans: TokenSpan[] = [];
  let start = 0;
  for (; start + room < tokens; start += room - overlap) spans.push({ start, end: start + room });
  spans.push({ start, end: tokens });
  return spans;
}

/**
 * A chunk's text runs from the start of its first token to the start of the first token after it;
 * the first chunk begins with the text and the last ends with it. So without overlap the chunks'
 * texts concatenate to the document, whatever the tokenizer skipped.
 *
 * @param params.encoded Without special tokens; `starts` may be empty when everything fits.
 */
export function chunkDocument(params: Readonly<{ text: string; encoded: Encoded }> & ChunkLimits): Chunk[] {
  const { text, encoded } = params;
  assertChunkLimits(params);
  const tokens = encoded.ids.length;
  const spans = tokenWindows({ tokens, room: roomOf(params), overlap: params.overlap });
  if (spans.length > 1 && encoded.starts.length !== tokens) {
    throw new Error(`a text of ${tokens} tokens came with ${encoded.starts.length} positions`);
  }
  return spans.map(({ start, end }) => {
    const charStart = start === 0 ? 0 : encoded.starts[start]!;
    const charEnd = end === tokens ? text.length : encoded.starts[end]!;
    return {
      ids: withSpecials(encoded.ids.subarray(start, end), params),
      charStart,
      charEnd,
      text: text.slice(charStart, charEnd),
    };
  });
}

function withSpecials(ids: Int32Array, limits: ChunkLimits): Int32Array {
  const { prefixIds, suffixIds } = limits;
  const framed = new Int32Array(prefixIds.length + ids.length + suffixIds.length);
  framed.set(prefixIds, 0);
  framed.set(ids, prefixIds.length);
  framed.set(suffixIds, prefixIds.length + ids.length);
  return framed;
}
