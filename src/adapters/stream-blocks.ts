/** A stream made of ranged reads: each can be repeated, none holds a connection while the reader is slow. */
import type { ByteRange } from "../core/ports.ts";

/** One block is read ahead of the one that is handed out. */
export async function* streamBlocks(
  params: Readonly<{ range: ByteRange; blockBytes: number; read: (range: ByteRange) => Promise<Buffer> }>,
): AsyncGenerator<Buffer> {
  const { range, blockBytes, read } = params;
  const begin = (start: number): Promise<Buffer> | null => {
    if (start >= range.end) return null;
    const block = read({ start, end: Math.min(start + blockBytes, range.end) });
    // Awaited in turn below; until then, or when nobody reads on, a failure must not count as unhandled.
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
