/** `ByteSource` on a local file or a pipe. */
import type { Stats } from "node:fs";
import { type FileHandle, open, stat } from "node:fs/promises";
import type { Readable } from "node:stream";
import { FleetError, messageOf } from "../../core/errors.ts";
import type { ByteRange, ByteSource } from "../../core/ports.ts";
import { errnoOf } from "./file-faults.ts";
import { streamBlocks } from "../stream-blocks.ts";

const BLOCK_BYTES = 1024 * 1024;

/** Identity of a file version. */
export interface FilePin {
  readonly bytes: number;
  readonly mtimeMs: number;
}

/** Null when the path is not a plain file, or cannot be inspected. */
export async function pinFile(path: string): Promise<FilePin | null> {
  const stats = await stat(path).catch(() => null);
  return stats?.isFile() === true ? { bytes: stats.size, mtimeMs: stats.mtimeMs } : null;
}

/**
 * @param params.pin Version of the file that was inspected before; by default the current one.
 * @throws FleetError `source_missing`, `source_unreadable`, `source_changed`
 */
export async function openFileSource(
  params: Readonly<{ path: string; name: string; pin?: FilePin | undefined }>,
): Promise<ByteSource> {
  const { path, name, pin } = params;
  let file: FileHandle | undefined;
  try {
    file = await open(path);
    const stats = await file.stat();
    if (pin !== undefined && (stats.size !== pin.bytes || stats.mtimeMs !== pin.mtimeMs))
      throw changed(name, "it was written to");
    if (stats.isFile()) return new FileSource(name, file, stats);
    // Not opened a second time: the writer of a named pipe would see its reader disconnect.
    return pipeSource({ stream: file.createReadStream({ highWaterMark: BLOCK_BYTES }), name });
  } catch (error) {
    await file?.close();
    if (pin !== undefined && errnoOf(error) === "ENOENT")
      throw changed(name, "it does not exist, or not on this machine");
    throw fault(name, error);
  }
}

class FileSource implements ByteSource {
  readonly name: string;
  readonly bytes: number;
  readonly #file: FileHandle;
  readonly #opened: Stats;

  constructor(name: string, file: FileHandle, stats: Stats) {
    this.name = name;
    this.bytes = stats.size;
    this.#file = file;
    this.#opened = stats;
  }

  stream(params: Readonly<{ start?: number }> = {}): AsyncIterable<Buffer> {
    return streamBlocks({
      range: { start: params.start ?? 0, end: this.bytes },
      blockBytes: BLOCK_BYTES,
      read: (range) => this.readRange(range),
    });
  }

  async readRange({ start, end }: ByteRange): Promise<Buffer> {
    const bytes = Buffer.allocUnsafeSlow(end - start);
    try {
      let done = 0;
      while (done < bytes.length) {
        const { bytesRead } = await this.#file.read(bytes, done, bytes.length - done, start + done);
        if (bytesRead === 0) throw changed(this.name, `it ends at byte ${start + done}`);
        done += bytesRead;
      }
      await this.#assertUnchanged();
      return bytes;
    } catch (error) {
      throw fault(this.name, error);
    }
  }

  async close(): Promise<void> {
    await this.#file.close();
  }

  async #assertUnchanged(): Promise<void> {
    const { size, mtimeMs } = await this.#file.stat();
    if (size === this.#opened.size && mtimeMs === this.#opened.mtimeMs) return;
    throw changed(this.name, size === this.bytes ? "it was written to" : `it had ${this.bytes} bytes and has ${size}`);
  }
}

/** Standard input, or any stream that can be read once. */
export function pipeSource(params: Readonly<{ stream: Readable; name: string }>): ByteSource {
  const { stream, name } = params;
  return {
    name,
    bytes: null,
    stream: ({ start = 0 } = {}) => readPipe(stream, name, start),
    readRange: () => {
      throw new FleetError("bad_usage", `${name} is a pipe and cannot be read by ranges`, {
        cure: "write it to a file first",
      });
    },
    close: async () => void stream.destroy(),
  };
}

async function* readPipe(stream: Readable, name: string, start: number): AsyncGenerator<Buffer> {
  let left = start;
  try {
    for await (const chunk of stream) {
      const bytes = Buffer.from(chunk as Uint8Array);
      if (bytes.length > left) yield bytes.subarray(left);
      left = Math.max(0, left - bytes.length);
    }
  } catch (error) {
    throw fault(name, error);
  }
}

function changed(name: string, finding: string): FleetError {
  return new FleetError("source_changed", `${name} was changed while it was read: ${finding}`, {
    cure: "wait until nothing writes to the corpus, then start a new run",
  });
}

/** Maps errors of the system, which have a code; others are bugs and stay as they are. */
function fault(name: string, error: unknown): unknown {
  const code = errnoOf(error);
  if (error instanceof FleetError || code === undefined) return error;
  if (code === "ENOENT")
    return new FleetError("source_missing", `${name} does not exist: ${messageOf(error)}`, { cause: error });
  return new FleetError("source_unreadable", `${name} cannot be read: ${messageOf(error)}`, {
    cure: "check its permissions and its disk",
    cause: error,
  });
}
