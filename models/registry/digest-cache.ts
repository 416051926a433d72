/** Sizes and SHA-256 of a model's files. Those of large files are kept, in the user's cache and not beside the files. */
import { createHash, randomUUID } from "node:crypto";
import { mkdir, rename, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { z } from "zod";
import { readText, sha256Of, statPlain } from "./plain-file.ts";

/** Smaller files are hashed at every start, which costs nothing. */
const KEEP_BYTES = 64 * 1024 * 1024;
/** A file changed twice within the resolution of its file system's clock looks like the same file. */
const SETTLED_MS = 2000;

const keptSchema = z.object({ sha256: z.string().regex(/^[0-9a-f]{64}$/) });

export interface FileDigest {
  readonly bytes: number;
  readonly sha256: string;
  /** Of the file that has this digest: see `PlainFile`. */
  readonly identity: string;
}

/**
 * A digest holds while the file's identity does: its inode, size and times. Programs that set a file's modification
 * time, as `rsync -t` does, cannot set the time of its last change. A model's folder may be anyone's, so nothing in it
 * says what its digests are.
 */
export class DigestCache {
  readonly #folder: string | null;

  /** @param cacheFolder Null: nothing is kept. */
  constructor(cacheFolder: string | null) {
    this.#folder = cacheFolder === null ? null : join(cacheFolder, "digests");
  }

  /** @throws FleetError `model_invalid` when it is not a regular file or changes while it is read; else the system's error. */
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

/** Null for one that was never saved, and for a file that cannot be read: it is only computed again. */
function find(place: string): string | null {
  try {
    return keptSchema.parse(JSON.parse(readText(place))).sha256;
  } catch {
    return null;
  }
}

/** A cache that cannot be written to, a read-only container's, is done without. */
async function save(place: string, sha256: string): Promise<void> {
  const draft = `${place}.${randomUUID()}`;
  await mkdir(dirname(place), { recursive: true })
    .then(() => writeFile(draft, `${JSON.stringify({ sha256 })}\n`))
    .then(() => rename(draft, place))
    .catch(() => rm(draft, { force: true }));
}
