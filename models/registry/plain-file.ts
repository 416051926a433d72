/**
 * Reads files of a model, which may be anyone's: only regular files are opened, without waiting for a writer, and at
 * most the size at opening is read. A pipe, a socket, a device or a folder in a file's place
 * is refused, also behind a link.
 */
import { createHash } from "node:crypto";
import { type BigIntStats, closeSync, constants, fstatSync, openSync, readSync, statSync } from "node:fs";
import { open } from "node:fs/promises";
import { basename } from "node:path";
import { FleetError } from "../../src/core/errors.ts";

/** Limit on a manifest or a configuration; the largest known, with every engine listed, is below 100 kB. */
const MAX_TEXT_BYTES = 4 * 1024 * 1024;
/** Limit on a tokenizer's file; vocabularies of 250,000 entries take about 17 MB. */
const MAX_TOKENIZER_BYTES = 256 * 1024 * 1024;
const BLOCK_BYTES = 1024 * 1024;
/** `O_NONBLOCK`: a pipe that replaced the file after the check must not wait for its writer. */
const FLAGS = constants.O_RDONLY | (constants.O_NONBLOCK ?? 0);

/** An open regular file. */
export interface PlainFile {
  readonly path: string;
  readonly bytes: number;
  /** Changes whenever the file is written to or replaced: device, inode, size, and times of the last changes. */
  readonly identity: string;
  /** @returns Number of bytes read, fewer than asked for only at the end of the file. */
  readonly read: (into: Uint8Array, position: number) => number;
}

/**
 * Opens the file for as long as `use` takes.
 * @throws FleetError `model_invalid` when it is not a regular file; the system's own error when it is missing.
 */
export function withPlainFile<T>(path: string, use: (file: PlainFile) => T): T {
  const fd = openPlain(path);
  try {
    return use(plainFile(path, fd));
  } finally {
    closeSync(fd);
  }
}

/**
 * Reads the whole file.
 * @throws FleetError `model_invalid` when it is larger than `maxBytes`, not a regular file, or changes meanwhile.
 */
export function readPlain(path: string, maxBytes: number): Buffer {
  return withPlainFile(path, (file) => {
    if (file.bytes > maxBytes) {
      throw new FleetError("model_invalid", `${path} is ${file.bytes} bytes long; at most ${maxBytes} are read`, {
        cure: "not a valid model file: install the model again",
      });
    }
    const bytes = Buffer.alloc(file.bytes);
    file.read(bytes, 0);
    assertIdentity(path, file.identity);
    return bytes;
  });
}

/** Reads a text file of a model. @throws FleetError `model_invalid` */
export function readText(path: string): string {
  return readPlain(path, basename(path) === "tokenizer.json" ? MAX_TOKENIZER_BYTES : MAX_TEXT_BYTES).toString("utf8");
}

/** Reads a tokenizer's file, under any name. @throws FleetError `model_invalid` */
export function readTokenizerText(path: string): string {
  return readPlain(path, MAX_TOKENIZER_BYTES).toString("utf8");
}

/** A regular file's metadata, without opening it. */
export interface PlainStats extends Pick<PlainFile, "bytes" | "identity"> {
  /** Change time (ctime): when it was last written to, renamed or given other permissions; no program can set it. */
  readonly changedAtMs: number;
}

/** @throws FleetError `model_invalid` when it is not a regular file; the system's own error when it is missing. */
export function statPlain(path: string): PlainStats {
  const stats = assertRegular(path, statSync(path, { bigint: true }));
  return { bytes: Number(stats.size), identity: identityFrom(stats), changedAtMs: Number(stats.ctimeMs) };
}

/** @throws FleetError `model_invalid` when the file was written to or replaced since `identity` was taken. */
export function assertIdentity(path: string, identity: string): void {
  if (statPlain(path).identity !== identity) throw changedFile(path);
}

export function changedFile(path: string): FleetError {
  return new FleetError("model_invalid", `${path} has been changed since the model was opened`, {
    cure: "do not write to the folder of a model in use: put another revision into its own folder",
  });
}

/**
 * @param identity Identity of the expected file.
 * @returns SHA-256 of the file's bytes, in hexadecimal.
 * @throws as `assertIdentity` does, also when the file changes meanwhile.
 */
export async function sha256Of(path: string, identity: string): Promise<string> {
  assertIdentity(path, identity);
  const handle = await open(path, FLAGS);
  try {
    const stats = assertRegular(path, await handle.stat({ bigint: true }));
    const hash = createHash("sha256");
    const bytes = Number(stats.size);
    // The end is set, because a file that grows faster than it is read has none.
    const range = { start: 0, end: bytes - 1, highWaterMark: BLOCK_BYTES, autoClose: false };
    if (bytes > 0) for await (const block of handle.createReadStream(range)) hash.update(block as Buffer);
    if (identityFrom(stats) !== identity) throw changedFile(path);
    assertIdentity(path, identity);
    return hash.digest("hex");
  } finally {
    await handle.close();
  }
}

function openPlain(path: string): number {
  // Checked before it is opened, because opening some devices has side effects.
  statPlain(path);
  return openSync(path, FLAGS);
}

function plainFile(path: string, fd: number): PlainFile {
  const stats = assertRegular(path, fstatSync(fd, { bigint: true }));
  return {
    path,
    bytes: Number(stats.size),
    identity: identityFrom(stats),
    read: (into, position) => {
      let count = 0;
      while (count < into.length) {
        const more = readSync(fd, into, count, into.length - count, position + count);
        if (more === 0) break;
        count += more;
      }
      return count;
    },
  };
}

function identityFrom({ dev, ino, size, mtimeNs, ctimeNs }: BigIntStats): string {
  return [dev, ino, size, mtimeNs, ctimeNs].join(":");
}

function assertRegular(path: string, stats: BigIntStats): BigIntStats {
  if (stats.isFile()) return stats;
  throw new FleetError("model_invalid", `${path} is ${kindOf(stats)}, not a regular file`, {
    cure: "not a valid model file: install the model again",
  });
}

function kindOf(stats: BigIntStats): string {
  if (stats.isDirectory()) return "a folder";
  if (stats.isFIFO()) return "a named pipe";
  return stats.isSocket() ? "a socket" : "a device";
}
