/** A stream of ranged reads: each can be repeated, and none keeps a connection open while the reader is slow. */
import type { ByteRange } from "../core/ports.ts";

/** The blocks of a range; one block is read ahead of the current one. */
export async function* streamBlocks(
  params: Readonly<{ range: ByteRange; blockBytes: number; read: (range: ByteRange) => Promise<Buffer> }>,
): AsyncGenerator<Buffer> {
  const { range, blockBytes, read } = params;
  const begin = (start: number): Promise<Buffer> | null => {
    if (start >= range.end) return null;
    const block = read({ start, end: Math.min(start + blockBytes, range.end) });
    // Awaited in turn below; until then, or when the reader stops, a failure must not count as unhandled.
    block.catch(() => {});
    return block;
  };
  let at = range.start;
  let next = begin(at);
  while (next !== null) {
    const block = await next;
    at += block.length;
    next = begin(at);
    yield block;
  }
}
