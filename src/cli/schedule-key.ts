/**
 * The secret that signs schedules: of the environment, or a key that the user keeps, so that on one machine nothing has
 * to be set. Whoever can write to the store but not to this user's files cannot sign.
 */
import { randomBytes } from "node:crypto";
import { constants } from "node:fs";
import { link, mkdir, open, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { configFolder, scheduleSecret } from "../config.ts";
import { FleetError, messageOf } from "../core/errors.ts";

/** @returns Null when there is none. @throws FleetError `bad_usage` */
export async function findScheduleSecret(): Promise<string | null> {
  return scheduleSecret() ?? (await readKey(keyFile()));
}

/**
 * As `findScheduleSecret`, but makes the user a key.
 * @returns Null when none can be kept. @throws FleetError `bad_usage`
 */
export async function makeScheduleSecret(): Promise<string | null> {
  const found = await findScheduleSecret();
  if (found !== null) return found;
  try {
    await makeKey(keyFile());
  } catch {
    // A home that cannot be written to, as in a container: schedules are not signed then, and that is said.
    return null;
  }
  return readKey(keyFile());
}

function keyFile(): string {
  return join(configFolder(), "schedule.key");
}

async function readKey(path: string): Promise<string | null> {
  let file;
  try {
    file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
    const stats = await file.stat();
    if (!stats.isFile() || (stats.mode & 0o077) !== 0 || stats.size > 1024)
      throw new FleetError("bad_usage", `the key ${path} is no plain file that only its user can read`, {
        cure: `chmod 600 ${path}, or remove it and add the schedules anew; EMBEDFLEET_SCHEDULE_SECRET goes before it`,
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

/** Whole or not at all, and one of two that are made at the same time. */
async function makeKey(path: string): Promise<void> {
  await mkdir(configFolder(), { recursive: true, mode: 0o700 });
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

/** No file, no folder, or a place that this user has no business in. */
function isAbsent(error: unknown): boolean {
  return ["ENOENT", "ENOTDIR", "EACCES"].includes(String((error as NodeJS.ErrnoException).code));
}
