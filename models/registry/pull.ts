/**
 * Downloads a model's files to this machine. A file is written beside its final path, resumes after an interruption,
 * is checked against its size and digest, and is then renamed; the manifest is written last, so a
 * folder with one is complete.
 */
import { createHash, type Hash } from "node:crypto";
import { createReadStream } from "node:fs";
import { lstat, mkdir, open, rename, rm, stat, statfs, utimes, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { precisionSchema } from "../../src/core/contracts.ts";
import { FleetError, messageOf } from "../../src/core/errors.ts";
import { isOnnx, type ModelFile, type ModelManifest } from "./manifest.ts";
import { weightsOf } from "./open-model.ts";
import { readText, sha256Of, statPlain } from "./plain-file.ts";
import { pulledFolder } from "./registry.ts";

/** The hub, or a mirror of it. */
export interface ModelSource {
  /** The source's name in messages, without credentials. */
  readonly name: string;
  /** @throws FleetError `model_unavailable` when it is missing or may not be read; any other error may be retried. */
  open(params: Readonly<{ path: string; start: number }>): Promise<OpenedFile>;
}

/** What a source answers for a file that it does not have. */
export class MissingFile extends FleetError {
  constructor(message: string, cure: string) {
    super("model_unavailable", message, { cure });
  }
}

export interface OpenedFile {
  readonly body: AsyncIterable<Uint8Array>;
  /** Offset of the body's first byte: as asked, or 0 from a server without range requests. */
  readonly start: number;
  /** Size of the whole file; null when the source does not state it. */
  readonly bytes: number | null;
  /** SHA-256 that the source claims. */
  readonly sha256: string | null;
  /** The commit that a branch's name referred to. */
  readonly revision: string | null;
  /** Closes the response, whether its body was read or not. */
  close(): Promise<void>;
}

export interface PulledFile {
  readonly path: string;
  readonly bytes: number;
  readonly sha256: string;
  /** The origin of the digest: `recorded` is that of the first download, checked from then on. */
  readonly digest: "manifest" | "source" | "recorded";
  /** False when the file was already present. */
  readonly isNew: boolean;
}

export interface Pulled {
  readonly folder: string;
  readonly manifest: ModelManifest;
  readonly files: readonly PulledFile[];
}

export interface PullParams {
  readonly manifest: ModelManifest;
  readonly source: ModelSource;
  readonly modelsFolder: string;
  readonly onProgress?: (path: string, bytes: number, total: number | null) => void;
  readonly onRetry?: (path: string, reason: string) => void;
  /** Delay before the second attempt; it doubles each time. */
  readonly backoffMs?: number;
}

const MAX_ATTEMPTS = 6;
const DEFAULT_BACKOFF_MS = 1000;
const LONGEST_BACKOFF_MS = 30_000;

/**
 * Idempotent: files that are present and sound are kept.
 * @throws FleetError `model_unavailable`, `model_invalid`
 */
export async function pullModel(params: PullParams): Promise<Pulled> {
  const { manifest } = params;
  const folder = pulledFolder(manifest, params.modelsFolder);
  await mkdir(folder, { recursive: true });
  const release = await takeLock(folder);
  try {
    const files: PulledFile[] = [];
    const revisions = new Set<string>();
    for (const file of filesOf(manifest)) files.push(await pullFile({ ...params, folder, file, revisions }));
    const revision = oneRevision(revisions, `${manifest.hub}@${manifest.revision}`) ?? manifest.revision;
    const whole = withDigests({ ...manifest, revision }, files);
    await replaceFile(join(folder, "manifest.json"), `${JSON.stringify(whole, null, 2)}\n`);
    return { folder, manifest: whole, files };
  } finally {
    await release();
  }
}

/** The commit that all files are of; undefined when the source names none. @throws FleetError `model_unavailable` */
export function oneRevision(revisions: ReadonlySet<string>, name: string): string | undefined {
  if (revisions.size <= 1) return [...revisions][0];
  throw new FleetError("model_unavailable", `${name} moved while it was pulled`, { cure: "pull it again" });
}

/** The model's files over all precisions, each once. */
function filesOf(manifest: ModelManifest): ModelFile[] {
  const engines = isOnnx(manifest) ? (manifest.engines ?? []).flatMap(({ files }) => files) : [];
  const all = [manifest.tokenizer, ...precisionSchema.options.flatMap((each) => weightsOf(manifest, each)), ...engines];
  return [...new Map(all.map((file) => [file.path, file])).values()];
}

/** The manifest with the size and digest of each file that was pulled. */
export function withDigests(manifest: ModelManifest, pulled: readonly PulledFile[]): ModelManifest {
  const known = new Map(pulled.map(({ path, bytes, sha256 }) => [path, { path, bytes, sha256 }]));
  const fill = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(fill);
    if (value === null || typeof value !== "object") return value;
    const { path } = value as { path?: unknown };
    if (typeof path === "string" && known.has(path)) return known.get(path);
    return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, fill(each)]));
  };
  return fill(manifest) as ModelManifest;
}

// --- One file -------------------------------------------------------------------------------

export interface FileParams extends Omit<PullParams, "manifest" | "modelsFolder"> {
  readonly folder: string;
  readonly file: ModelFile;
  readonly revisions: Set<string>;
}

/** Downloads one file, unless it is there and sound. @throws MissingFile, FleetError */
export async function pullFile(params: FileParams): Promise<PulledFile> {
  const { folder, file } = params;
  const place = join(folder, file.path);
  const there = await describe(place);
  if (
    there !== null &&
    fits(there, file) &&
    (file.sha256 !== undefined || (await isRecorded(folder, file.path, there)))
  )
    return { path: file.path, ...there, digest: file.sha256 === undefined ? "recorded" : "manifest", isNew: false };
  await mkdir(dirname(place), { recursive: true });
  const part = `${place}.part`;
  await clear(part);
  const hadPart = (await sizeOf(part)) > 0;
  const { claimed, ...came } = await download(params, part);
  const expected = file.sha256 ?? claimed;
  if (!fits(came, { ...file, sha256: expected ?? undefined })) {
    await rm(part);
    // The rest of an earlier pull may be the damaged part.
    if (hadPart) return pullFile(params);
    throw notAsExpected(params, `${came.bytes} bytes with sha256 ${came.sha256}`, expected ?? "any digest");
  }
  await rename(part, place);
  return { path: file.path, ...came, digest: digestSource(file, claimed), isNew: true };
}

function notAsExpected({ file, source }: FileParams, found: string, sha256: string): FleetError {
  return new FleetError(
    "model_invalid",
    `${file.path} from ${source.name} has ${found}; expected were ${file.bytes ?? "any number of"} bytes, ${sha256}`,
    { cure: "it was tampered with, is damaged or is another revision; pull again, or from another source" },
  );
}

function digestSource(file: ModelFile, claimed: string | null): PulledFile["digest"] {
  if (file.sha256 !== undefined) return "manifest";
  return claimed === null ? "recorded" : "source";
}

/** Whether an earlier pull's manifest records this digest. */
async function isRecorded(folder: string, path: string, there: FileDigest): Promise<boolean> {
  const manifest = join(folder, "manifest.json");
  const isThere = (await stat(manifest).catch(() => null)) !== null;
  const record = isThere ? readText(manifest) : "";
  return record.includes(JSON.stringify(there.sha256)) && record.includes(JSON.stringify(path));
}

interface FileDigest {
  readonly bytes: number;
  readonly sha256: string;
}

/** Size and digest of the file, or null. @throws FleetError `model_invalid` when its path is not a regular file. */
async function describe(path: string): Promise<FileDigest | null> {
  if ((await stat(path).catch(() => null)) === null) return null;
  const { bytes, identity } = statPlain(path);
  return { bytes, sha256: await sha256Of(path, identity) };
}

/** Removes what is not a regular file: a pipe would block, and a link would be written through to its target. */
async function clear(path: string): Promise<void> {
  const info = await lstat(path).catch(() => null);
  if (info !== null && !info.isFile()) await rm(path, { recursive: true });
}

function fits(
  found: FileDigest,
  expected: Readonly<{ bytes?: number | undefined; sha256?: string | undefined }>,
): boolean {
  const { bytes = found.bytes, sha256 = found.sha256 } = expected;
  return found.bytes === bytes && found.sha256 === sha256;
}

/** Downloads with retries, which are unlimited while each attempt makes progress. */
async function download(params: FileParams, part: string): Promise<FileDigest & { claimed: string | null }> {
  const { file, source, onRetry } = params;
  let pauseMs = params.backoffMs ?? DEFAULT_BACKOFF_MS;
  for (let attempt = 1; ;) {
    const before = await sizeOf(part);
    try {
      return await downloadOnce(params, part);
    } catch (error) {
      if (error instanceof FleetError) throw error;
      attempt = (await sizeOf(part)) > before ? 1 : attempt + 1;
      if (attempt > MAX_ATTEMPTS) {
        throw new FleetError(
          "model_unavailable",
          `${file.path} cannot be fetched from ${source.name}: ${messageOf(error)}, ${MAX_ATTEMPTS} times in a row`,
          { cure: "check that the source can be reached, and pull again: it goes on where it stopped", cause: error },
        );
      }
      onRetry?.(file.path, messageOf(error));
      await new Promise((resolve) => setTimeout(resolve, pauseMs));
      pauseMs = Math.min(pauseMs * 2, LONGEST_BACKOFF_MS);
    }
  }
}

async function sizeOf(path: string): Promise<number> {
  return (await stat(path).catch(() => null))?.size ?? 0;
}

async function downloadOnce(params: FileParams, part: string): Promise<FileDigest & { claimed: string | null }> {
  const { file, source } = params;
  const opened = await source.open({ path: file.path, start: await sizeOf(part) });
  try {
    return await receive(params, part, opened);
  } finally {
    await opened.close();
  }
}

async function receive(
  params: FileParams,
  part: string,
  opened: OpenedFile,
): Promise<FileDigest & { claimed: string | null }> {
  const { file, folder, revisions, onProgress } = params;
  if (opened.revision !== null) revisions.add(opened.revision);
  const total = opened.bytes ?? file.bytes ?? null;
  if (total !== null && total !== (file.bytes ?? total))
    throw notAsExpected(params, `${total} bytes`, file.sha256 ?? "any digest");
  await assertRoom(folder, total === null ? 0 : total - opened.start, file.path);
  const hash = await hashOfFirst(part, opened.start);
  const handle = await open(part, opened.start === 0 ? "w" : "r+");
  let at = opened.start;
  try {
    for await (const chunk of opened.body) {
      await handle.write(chunk, 0, chunk.length, at);
      hash.update(chunk);
      at += chunk.length;
      if (total !== null && at > total) break;
      onProgress?.(file.path, at, total);
    }
    await handle.truncate(at);
    await handle.sync();
  } finally {
    await handle.close();
  }
  if (total !== null && at < total) throw new Error(`the download ended after ${at} of ${total} bytes`);
  return { bytes: at, sha256: hash.digest("hex"), claimed: opened.sha256 };
}

async function hashOfFirst(part: string, bytes: number): Promise<Hash> {
  const hash = createHash("sha256");
  if (bytes === 0) return hash;
  for await (const chunk of createReadStream(part, { end: bytes - 1, highWaterMark: 1 << 20 }))
    hash.update(chunk as Buffer);
  return hash;
}

async function assertRoom(folder: string, bytes: number, path: string): Promise<void> {
  const { bavail, bsize } = await statfs(folder);
  if (bavail * bsize >= bytes) return;
  throw new FleetError(
    "model_unavailable",
    `${path} needs ${bytes} bytes; the disk of ${folder} has ${bavail * bsize} left`,
    { cure: "free some space, or choose another folder with --models" },
  );
}

/** Writes a whole file or none. */
export async function replaceFile(path: string, text: string): Promise<void> {
  await clear(`${path}.part`);
  await writeFile(`${path}.part`, text, { flush: true });
  await rename(`${path}.part`, path);
}

// --- One at a time --------------------------------------------------------------------------

const LOCK_BEAT_MS = 5000;
/** A lock that was not touched for this long is abandoned. */
const LOCK_STALE_MS = 30_000;

/** Locks the folder, as two writers would damage a file. @returns A function that releases the lock. */
export async function takeLock(folder: string): Promise<() => Promise<void>> {
  const lock = join(folder, "pull.lock");
  for (;;) {
    const handle = await open(lock, "wx").catch((error: NodeJS.ErrnoException) => {
      if (error.code === "EEXIST") return null;
      throw new FleetError("model_unavailable", `${folder} cannot be written to: ${error.message}`, {
        cure: "choose another folder with --models",
        cause: error,
      });
    });
    if (handle !== null) {
      await handle.close();
      const beat = setInterval(() => void utimes(lock, new Date(), new Date()).catch(() => {}), LOCK_BEAT_MS);
      return async () => {
        clearInterval(beat);
        await rm(lock, { force: true });
      };
    }
    const info = await stat(lock).catch(() => null);
    if (info !== null && Date.now() - info.mtimeMs > LOCK_STALE_MS) await rm(lock, { force: true });
    else await new Promise((resolve) => setTimeout(resolve, LOCK_BEAT_MS / 10));
  }
}
