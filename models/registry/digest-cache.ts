/** Sizes and SHA-256 of a model's files. Large files' digests are cached in the user's cache, not beside the files. */
import { createHash, randomUUID } from "node:crypto";
import { mkdir, rename, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { z } from "zod";
import { readText, sha256Of, statPlain } from "./plain-file.ts";

/** Minimum size of files whose digest is cached, in bytes; smaller ones are hashed at every start, at little cost. */
const KEEP_BYTES = 64 * 1024 * 1024;
/** Minimum age of a change: a file changed twice within its file system's clock resolution looks unchanged. */
const SETTLED_MS = 2000;

const keptSchema = z.object({ sha256: z.string().regex(/^[0-9a-f]{64}$/) });

export interface FileDigest {
  readonly bytes: number;
  readonly sha256: string;
  /** Identity of the file that has this digest; see `PlainFile`. */
  readonly identity: string;
}

/**
 * A digest is valid as long as the file's identity: its inode, size and times. Programs that set a file's modification
 * time, as `rsync -t` does, cannot set its change time (ctime). Anyone may write to a model's folder, so no file in it
 * is trusted for its digests.
 */
export class DigestCache {
  readonly #folder: string | null;

  /** @param cacheFolder Null to cache nothing. */
  constructor(cacheFolder: string | null) {
    this.#folder = cacheFolder === null ? null : join(cacheFolder, "digests");
  }

  /** @throws FleetError `model_invalid` if it is not a regular file or changes while read; else the system's error. */
  async of(path: string): Promise<FileDigest> {
    const { bytes, identity, changedAtMs } = statPlain(path);
    const isKept = bytes >= KEEP_BYTES && Date.now() - changedAtMs > SETTLED_MS;
    const kept = isKept ? this.#placeOf(path, identity) : null;
    const known = kept === null ? null : find(kept);
    if (known !== null) return { bytes, identity, sha256: known };
    const sha256 = await sha256Of(path, identity);
    if (kept !== null) await save(kept, sha256);
    return { bytes, identity, sha256 };
  }

  #placeOf(path: string, identity: string): string | null {
    if (this.#folder === null) return null;
    const name = createHash("sha256").update(`${identity} ${path}`).digest("hex").slice(0, 32);
    return join(this.#folder, `${name}.json`);
  }
}

/** A cached digest; null when there is none or its file cannot be read, in which case it is recomputed. */
function find(place: string): string | null {
  try {
    return keptSchema.parse(JSON.parse(readText(place))).sha256;
  } catch {
    return null;
  }
}

/** Saves a digest; a cache that is not writable, such as a read-only container's, is ignored. */
async function save(place: string, sha256: string): Promise<void> {
  const draft = `${place}.${randomUUID()}`;
  await mkdir(dirname(place), { recursive: true })
    .then(() => writeFile(draft, `${JSON.stringify({ sha256 })}\n`))
    .then(() => rename(draft, place))
    .catch(() => rm(draft, { force: true }));
}
