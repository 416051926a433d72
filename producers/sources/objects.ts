/** Lists the objects of a corpus from its inputs, in the same order on every machine. */
import { stat } from "node:fs/promises";
import { join, resolve } from "node:path";
import type { Readable } from "node:stream";
import picomatch from "picomatch";
import { isGlob, parseS3Url, STDIN, toPosix } from "../../src/adapters/input-address.ts";
import { openFileSource, pipeSource } from "../../src/adapters/file/file-source.ts";
import type { S3Bucket, S3Entry } from "../../src/adapters/s3/s3-source.ts";
import type { Format } from "../../src/core/selection.ts";
import type { rejectAt } from "../../src/core/documents.ts";
import type { ByteSource } from "../../src/core/ports.ts";
import { isWanted, passedAs, passedByPath } from "./formats.ts";
import type { TableFields } from "./partition.ts";
import { assertNoPartition, assertNoTable, holdsDeltaLog, tableInBucket } from "./tables.ts";
import { type Found, walk, type WalkOptions } from "./walk.ts";

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
  /** Values of the partition of a table that it belongs to; they are fields of its documents. */
  readonly fields?: TableFields;
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
  /** Whether symbolic links within folders are passed over. */
  readonly noFollow?: boolean;
  /** Why the target of such a link may not be read; absent where everything may be read. */
  readonly whyForbidden?: WalkOptions["whyForbidden"] | undefined;
  /** Called with the kind of each file or folder that is passed over. */
  readonly passOver?: (kind: string) => void;
}

/**
 * Folders are walked in order of names by code unit, buckets listed in order of keys; one page or folder of names
 * is held at a time. Names that begin with a dot are passed over.
 * @throws FleetError `source_unreadable` for a table that cannot be read at its current version
 */
export async function* listInput(input: string, options: ListOptions): AsyncGenerator<Listed> {
  if (input === STDIN) {
    const open = async (): Promise<ByteSource> => pipeSource({ stream: options.stdin, name: "standard input" });
    yield named({ name: "standard input", id: STDIN, place: { kind: "pipe" }, open });
  } else if (/^s3:/i.test(input)) yield* listS3(input, options);
  else if (await isFolder(input)) yield* listFolder(input, options);
  else if (isGlob(input) && !(await isThere(input))) yield* listGlob(input, options);
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

async function* listFolder(folder: string, options: ListOptions): AsyncGenerator<Listed> {
  await assertNoPartition(toPosix(resolve(folder)), holdsDeltaLog);
  const wants = (path: string): boolean => isWanted(path, options.format);
  for await (const found of walk(folder, walkOptions(options, wants))) {
    if (found.kind === "reject") yield found;
    else if (found.kind === "passed") options.passOver?.(found.why);
    else if (wants(found.path)) yield inFolder(folder, found);
    else options.passOver?.(passedAs(found.path, options.format)!);
  }
}

/** Every match of a pattern is read, whatever its extension. Ids are paths below its fixed part. */
async function* listGlob(pattern: string, options: ListOptions): AsyncGenerator<Listed> {
  const { base, glob } = picomatch.scan(toPosix(pattern));
  const isMatch = picomatch(glob);
  const folder = base === "" ? "." : base;
  await assertNoPartition(toPosix(resolve(folder)), holdsDeltaLog);
  for await (const found of walk(folder, walkOptions(options, isMatch))) {
    if (found.kind === "reject") yield found;
    // Others were not asked for.
    else if (!isMatch(found.path)) continue;
    else if (found.kind === "passed") options.passOver?.(found.why);
    else yield inFolder(folder, found);
  }
}

function walkOptions({ noFollow = false, whyForbidden }: ListOptions, wants: WalkOptions["wants"]): WalkOptions {
  return { noFollow, wants, ...(whyForbidden !== undefined && { whyForbidden }) };
}

function inFolder(folder: string, { path, at, fields }: Found & { kind: "file" }): Listed {
  const name = join(folder, path);
  const open = (): Promise<ByteSource> => openFileSource({ path: at, name });
  const place = { kind: "file", path: at } as const;
  return { kind: "object", object: { name, id: path, isNamed: false, place, open, ...(fields && { fields }) } };
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
  const isPattern = picomatch.scan(key).isGlob;
  const found = isPattern ? null : await findObject(bucket, key);
  if (found === null) yield* listBelow(bucket, { name, key, isPattern }, options);
  else {
    const url = `${bucket.url}/${key}`;
    yield named({ name: url, id: url, ...inBucket(bucket, name, found) });
  }
}

/** The object with this key; null if there is none, or if it is only a mark that consoles put beside a prefix. */
async function findObject(bucket: S3Bucket, key: string): Promise<S3Entry | null> {
  if (key === "" || key.endsWith("/")) return null;
  const found = await bucket.find(key);
  if (found === null || found.bytes > 0) return found;
  for await (const _ of bucket.list(`${key}/`)) return null;
  return found;
}

async function* listBelow(
  bucket: S3Bucket,
  { name, key, isPattern }: Readonly<{ name: string; key: string; isPattern: boolean }>,
  options: ListOptions,
): AsyncGenerator<Listed> {
  const { base, glob } = picomatch.scan(key);
  const folder = isPattern ? base : key.replace(/\/$/, "");
  const below = folder === "" ? "" : `${folder}/`;
  const isMatch = isPattern ? picomatch(glob) : null;
  const table = await tableInBucket(bucket, below);
  const passedOver = (path: string): string | null =>
    (isMatch === null ? passedAs(path, options.format) : passedByPath(path)) ??
    (table !== null && table.take(path) === null ? "file that its table does not hold" : null);
  for await (const entry of bucket.list(isPattern ? literalStart(key) : below)) {
    // A server lists by the pattern's literal prefix, which may be shorter than the folder that it names.
    if (!entry.key.startsWith(below)) continue;
    const path = entry.key.slice(below.length);
    if (table === null) assertNoTable(bucket, entry.key);
    if (isMatch?.(path) === false) continue;
    const why = passedOver(path);
    if (why !== null) {
      options.passOver?.(why);
      continue;
    }
    const fields = table?.take(path);
    const object = { name: `${bucket.url}/${entry.key}`, id: path, isNamed: false, ...(fields && { fields }) };
    yield { kind: "object", object: { ...object, ...inBucket(bucket, name, entry) } };
  }
  // A pattern may have asked for some of the table's files only.
  if (!isPattern && table !== null) yield* table.missing(`${bucket.url}/${folder}`);
}

/** The literal prefix of all matches, by which a server lists: `logs/2026-` of `logs/2026-*.jsonl`. */
function literalStart(pattern: string): string {
  return pattern.slice(0, pattern.search(/[*?[\]{}()!+@\\]/));
}
