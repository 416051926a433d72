/** Files with known digests, checked again when they are loaded: another program may write to them in between. */
import { assertIdentity, changedFile, sha256Of, statPlain } from "./plain-file.ts";

/** Plain data, because it is sent to threads and processes. */
export interface PinnedFile {
  /** Absolute path. */
  readonly path: string;
  readonly sha256: string;
  /** Identity when the digest was taken; see `PlainFile`. */
  readonly identity: string;
}

/**
 * Loads an object from the files, and refuses it if one of them was changed meanwhile.
 * @throws FleetError `model_invalid`, and what `load` throws.
 */
export async function loadPinned<T>(files: readonly PinnedFile[], load: () => T | Promise<T>): Promise<T> {
  const current = [];
  for (const file of files) current.push({ path: file.path, identity: await currentIdentity(file) });
  const loaded = await load();
  for (const { path, identity } of current) assertIdentity(path, identity);
  return loaded;
}

/** Identity of the file now; one that was only linked or given other permissions is hashed again and accepted. */
async function currentIdentity({ path, sha256, identity }: PinnedFile): Promise<string> {
  const now = statPlain(path).identity;
  if (now === identity || (await sha256Of(path, now)) === sha256) return now;
  throw changedFile(path);
}
