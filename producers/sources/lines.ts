/**
 * Lines of a byte stream. Splitting chunks at newlines by hand is twice as fast as `readline` and,
 * unlike it, lets a line of any length pass without being held in memory.
 */

export type Line =
  | { readonly kind: "line"; readonly number: number; readonly bytes: Buffer }
  | { readonly kind: "too-long"; readonly number: number; readonly byteLength: number };

const NEWLINE = 10;
const CARRIAGE_RETURN = 13;

/** @param maxBytes A longer line is dropped as it streams past, and only its length is told. */
export async function* splitLines(chunks: AsyncIterable<Buffer>, maxBytes: number): AsyncGenerator<Line> {
  let parts: Buffer[] = [];
  let length = 0;
  let number = 1;
  const take = (part: Buffer): void => {
    length += part.length;
    if (length <= maxBytes) parts.push(part);
    else parts = [];
  };
  const finish = (): Line => {
    const line: Line =
      length > maxBytes
        ? { kind: "too-long", number, byteLength: length }
        : { kind: "line", number, bytes: joinLine(parts) };
    parts = [];
    length = 0;
    number++;
    return line;
  };
  for await (const chunk of chunks) {
    let start = 0;
    for (let end = chunk.indexOf(NEWLINE); end !== -1; end = chunk.indexOf(NEWLINE, start)) {
      take(chunk.subarray(start, end));
      yield finish();
      start = end + 1;
    }
    // Streams may reuse a chunk's memory, so what stays is copied.
    if (start < chunk.length) take(Buffer.from(chunk.subarray(start)));
  }
  if (length > 0) yield finish();
}

function joinLine(parts: readonly Buffer[]): Buffer {
  const line = parts.length === 1 ? parts[0]! : Buffer.concat(parts);
  return line.at(-1) === CARRIAGE_RETURN ? line.subarray(0, -1) : line;
}
