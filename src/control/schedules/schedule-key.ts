/**
 * The secret that signs schedules: from the environment, or a key file of the user, so that a single machine needs
 * no configuration. A user who can write to the store but not to this user's files cannot sign.
 */
import { randomBytes } from "node:crypto";
import { constants } from "node:fs";
import { link, mkdir, open, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { FleetError, messageOf } from "../../core/errors.ts";

/** Sources of this process's secret. */
export interface ScheduleKeyPlaces {
  /** Passed to the process; takes precedence over the file. */
  readonly secret: string | undefined;
  /** The user's configuration folder, which contains `schedule.key`. */
  readonly folder: string;
}

/** @returns Null when there is none. @throws FleetError `bad_usage` */
export async function findScheduleSecret({ secret, folder }: ScheduleKeyPlaces): Promise<string | null> {
  return checked(secret) ?? (await readKey(keyFile(folder)));
}

/**
 * As `findScheduleSecret`, but creates the user's key if needed.
 * @returns Null when none can be stored. @throws FleetError `bad_usage`
 */
export async function makeScheduleSecret(places: ScheduleKeyPlaces): Promise<string | null> {
  const found = await findScheduleSecret(places);
  if (found !== null) return found;
  try {
    await makeKey(places.folder);
  } catch {
    // A home that is not writable, as in a container: schedules are then unsigned, which is reported.
    return null;
  }
  return readKey(keyFile(places.folder));
}

function checked(secret: string | undefined): string | undefined {
  if (secret === undefined || secret === "") return undefined;
  if (secret.length >= 12) return secret;
  throw new FleetError("bad_usage", `EMBEDFLEET_SCHEDULE_SECRET has ${secret.length} characters and can be guessed`, {
    cure: "use at least 12; `openssl rand -hex 24` makes a good one",
  });
}

function keyFile(folder: string): string {
  return join(folder, "schedule.key");
}

async function readKey(path: string): Promise<string | null> {
  let file;
  try {
    file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
    const stats = await file.stat();
    if (!stats.isFile() || (stats.mode & 0o077) !== 0 || stats.size > 1024)
      throw new FleetError("bad_usage", `the key ${path} is not a regular file that only its user can read`, {
        cure: `chmod 600 ${path}, or remove it and add the schedules again; EMBEDFLEET_SCHEDULE_SECRET takes precedence over it`,
      });
    const key = (await file.readFile("utf8")).trim();
    return key === "" ? null : key;
  } catch (error) {
    if (error instanceof FleetError) throw error;
    if (isAbsent(error)) return null;
    throw new FleetError("bad_usage", `the key ${path} cannot be read: ${messageOf(error)}`, { cause: error });
  } finally {
    await file?.close();
  }
}

/** Writes the key atomically; of two concurrent writers one wins. */
async function makeKey(folder: string): Promise<void> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const path = keyFile(folder);
  const draft = `${path}.${randomBytes(6).toString("hex")}`;
  try {
    await writeFile(draft, `${randomBytes(32).toString("hex")}\n`, { mode: 0o600, flag: "wx" });
    await link(draft, path).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== "EEXIST") throw error;
    });
  } finally {
    await rm(draft, { force: true });
  }
}

/** True for no file, no folder, or a place that this user may not access. */
function isAbsent(error: unknown): boolean {
  return ["ENOENT", "ENOTDIR", "EACCES"].includes(String((error as NodeJS.ErrnoException).code));
}
