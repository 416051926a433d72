/** Preferred positions for cutting a text. Pure; positions are UTF-16 code units. */

/**
 * `Intl.Segmenter` takes time quadratic in the length of its input, so it gets pieces of about this many
 * characters, cut at white space.
 */
const PIECE_CHARS = 1000;
const sentences = new Intl.Segmenter("und", { granularity: "sentence" });

/** Starts of paragraphs other than the first, which follow blank lines. */
export function paragraphStarts(text: string): number[] {
  const starts: number[] = [];
  for (const match of text.matchAll(/\r?\n[^\S\n]*\r?\n\s*/g)) starts.push(match.index + match[0].length);
  return starts.filter((start) => start < text.length);
}

/** Starts of sentences other than the first, by Unicode's rules (UAX #29), and of every paragraph. */
export function sentenceStarts(text: string): number[] {
  const starts: number[] = [];
  let start = 0;
  for (const end of [...paragraphStarts(text), text.length]) {
    if (start > 0) starts.push(start);
    for (let at = start; at < end;) {
      const pieceEnd = pieceEndOf(text, at, end);
      for (const { index, segment } of sentences.segment(text.slice(at, pieceEnd)))
        if (index > 0 && segment.trim() !== "") starts.push(at + index);
      at = pieceEnd;
    }
    start = end;
  }
  return starts;
}

/** The end of a piece: after its last white space; within a word only if it has none, and never within a character. */
function pieceEndOf(text: string, start: number, end: number): number {
  const longest = start + PIECE_CHARS;
  if (longest >= end) return end;
  for (let at = longest; at > start + PIECE_CHARS / 2; at--) if (/\s/.test(text[at - 1]!)) return at;
  return /[\uDC00-\uDFFF]/.test(text[longest]!) ? longest - 1 : longest;
}

/**
 * The token that begins at a position. One that begins in the white space before it counts; one
 * that begins in the word before it does not.
 *
 * @param starts First code unit of each token, ascending.
 * @returns The number of tokens when none begins there or later.
 */
export function tokenAt(position: number, text: string, starts: Uint32Array): number {
  let low = 0;
  let high = starts.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (starts[middle]! < position) low = middle + 1;
    else high = middle;
  }
  if (low === 0 || starts[low] === position) return low;
  return text.slice(starts[low - 1], position).trim() === "" ? low - 1 : low;
}

/** Tokens at these positions, ascending, each once, without the first token and the end. */
export function tokensAt(positions: readonly number[], text: string, starts: Uint32Array): number[] {
  const tokens: number[] = [];
  for (const position of positions) {
    const token = tokenAt(position, text, starts);
    if (token > (tokens.at(-1) ?? 0) && token < starts.length) tokens.push(token);
  }
  return tokens;
}
