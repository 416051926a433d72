/** Lists the objects of a corpus from its inputs, in the same order on every machine. */
import { opendir, stat } from "node:fs/promises";
import { join, posix } from "node:path";
import type { Readable } from "node:stream";
import picomatch from "picomatch";
import { isGlob, parseS3Url, STDIN, toPosix } from "../../src/adapters/input-address.ts";
import { openFileSource, pipeSource } from "../../src/adapters/file/file-source.ts";
import type { S3Bucket, S3Entry } from "../../src/adapters/s3/s3-source.ts";
import type { Format } from "../../src/core/selection.ts";
import { rejectAt } from "../../src/core/documents.ts";
import { messageOf } from "../../src/core/errors.ts";
import type { ByteSource } from "../../src/core/ports.ts";
import { isWanted } from "./formats.ts";

/** An object's location, as plain data by which another thread or process can open it. */
export type Place =
  | { readonly kind: "file"; readonly path: string }
  | { readonly kind: "s3"; readonly bucket: string; readonly entry: S3Entry }
  /** Readable only once, and only in this process. */
  | { readonly kind: "pipe" };

/** A source of documents: a file, an object in a bucket, standard input. */
export interface CorpusObject {
  /** The object's name in rejects. */
  readonly name: string;
  /** Document id, if the whole object is one document. */
  readonly id: string;
  /** True for an input itself; false for an object found below an input folder or prefix. */
  readonly isNamed: boolean;
  readonly place: Place;
  open(): Promise<ByteSource>;
}

/** One object of a corpus, or the reason why it cannot be read. */
export type Listed =
  | { readonly kind: "object"; readonly object: CorpusObject }
  | { readonly kind: "reject"; readonly reject: ReturnType<typeof rejectAt> };

export interface ListOptions {
  readonly format: Format;
  readonly stdin: Readable;
  /** The reader of a bucket, opened on first use. */
  readonly bucket: (name: string) => Promise<S3Bucket>;
}

/**
 * Folders are walked in order of names by code unit, buckets listed in order of keys; one page or folder of names
 * is held at a time. Names that begin with a dot are skipped and symbolic links are not followed.
 */
export async function* listInput(input: string, options: ListOptions): AsyncGenerator<Listed> {
  if (input === STDIN) {
    const open = async (): Promise<ByteSource> => pipeSource({ stream: options.stdin, name: "standard input" });
    yield named({ name: "standard input", id: STDIN, place: { kind: "pipe" }, open });
  } else if (/^s3:/i.test(input)) yield* listS3(input, options);
  else if (await isFolder(input)) yield* listFolder(input, (path) => isWanted(path, options.format));
  else if (isGlob(input) && !(await isThere(input))) yield* listGlob(input);
  else yield named({ name: input, id: toPosix(input), ...fileAt(input) });
}

function fileAt(path: string): Pick<CorpusObject, "place" | "open"> {
  return { place: { kind: "file", path }, open: () => openFileSource({ path, name: path }) };
}

function inBucket(bucket: S3Bucket, name: string, entry: S3Entry): Pick<CorpusObject, "place" | "open"> {
  return { place: { kind: "s3", bucket: name, entry }, open: async () => bucket.open(entry) };
}

function named(object: Omit<CorpusObject, "isNamed">): Listed {
  return { kind: "object", object: { ...object, isNamed: true } };
}

// --- Files ------------------------------------------------------------------------------------

async function* listFolder(folder: string, wants: (path: string) => boolean): AsyncGenerator<Listed> {
  for await (const found of walk(folder, "")) {
    if ("reject" in found) yield { kind: "reject", reject: found.reject };
    else if (wants(found.path)) {
      const name = join(folder, found.path);
      yield { kind: "object", object: { name, id: found.path, isNamed: false, ...fileAt(name) } };
    }
  }
}

/** Every match of a pattern is read, whatever its extension. Ids are paths below its fixed part. */
async function* listGlob(pattern: string): AsyncGenerator<Listed> {
  const { base, glob } = picomatch.scan(toPosix(pattern));
  const isMatch = picomatch(glob);
  const folder = base === "" ? "." : base;
  yield* listFolder(folder, isMatch);
}

type Found = { readonly path: string } | { readonly reject: ReturnType<typeof rejectAt> };

/** Files below a folder as POSIX paths relative to it. Links could form cycles or leave the folder, so none is followed. */
async function* walk(root: string, below: string): AsyncGenerator<Found> {
  const entries: { name: string; isFolder: boolean }[] = [];
  try {
    for await (const entry of await opendir(join(root, below))) {
      if (entry.name.startsWith(".") || !(entry.isFile() || entry.isDirectory())) continue;
      entries.push({ name: entry.name, isFolder: entry.isDirectory() });
    }
  } catch (error) {
    yield { reject: rejectAt({ file: join(root, below) }, "unreadable", messageOf(error)) };
    return;
  }
  entries.sort((a, b) => (a.name < b.name ? -1 : 1));
  for (const { name, isFolder } of entries) {
    const path = posix.join(below, name);
    if (isFolder) yield* walk(root, path);
    else yield { path };
  }
}

async function isFolder(path: string): Promise<boolean> {
  // A file that vanished since the check is reported by its reader.
  return stat(path).then(
    (info) => info.isDirectory(),
    () => false,
  );
}

async function isThere(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

// --- Buckets ----------------------------------------------------------------------------------

/** One object `s3://bucket/key`, else everything below `s3://bucket/key/`; or a pattern. */
async function* listS3(url: string, options: ListOptions): AsyncGenerator<Listed> {
  const { bucket: name, key } = parseS3Url(url);
  const bucket = await options.bucket(name);
  const { base, glob, isGlob } = picomatch.scan(key);
  if (!isGlob && key !== "" && !key.endsWith("/")) {
    const found = await bucket.find(key);
    if (found !== null) {
      const url = `${bucket.url}/${key}`;
      yield named({ name: url, id: url, ...inBucket(bucket, name, found) });
      return;
    }
  }
  const folder = isGlob ? base : key.replace(/\/$/, "");
  const below = folder === "" ? "" : `${folder}/`;
  const wants = isGlob ? picomatch(glob) : (path: string): boolean => isWanted(path, options.format);
  for await (const entry of bucket.list(isGlob ? literalStart(key) : below)) {
    // A server lists by the pattern's literal prefix, which may be shorter than the folder that it names.
    if (!entry.key.startsWith(below)) continue;
    const path = entry.key.slice(below.length);
    if (/(?:^|\/)\./.test(path) || !wants(path)) continue;
    const object = { name: `${bucket.url}/${entry.key}`, id: path, isNamed: false };
    yield { kind: "object", object: { ...object, ...inBucket(bucket, name, entry) } };
  }
}

/** The literal prefix of all matches, by which a server lists: `logs/2026-` of `logs/2026-*.jsonl`. */
function literalStart(pattern: string): string {
  return pattern.slice(0, pattern.search(/[*?[\]{}()!+@\\]/));
}
