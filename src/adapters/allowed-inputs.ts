/** Check that inputs named by an object of the store are in locations that this process was configured to allow. */
import { realpath } from "node:fs/promises";
import { posix, resolve } from "node:path";
import picomatch from "picomatch";
import { messageOf } from "../core/errors.ts";
import { parseS3Url, STDIN, toPosix } from "./input-address.ts";

/** A location split into parts: `["s3:", "bucket", "folder"]` or `["", "data", "folder"]`. */
type Parts = readonly string[];

interface Found {
  /** Common parent of everything that is read. */
  readonly below: Parts;
  /** The input with links resolved, so that a later change of a link has no effect. */
  readonly input: string;
}

/**
 * @param allowed Folders and `s3://bucket/prefix`, compared part by part: `s3://b/a` does not allow `s3://b/ab`. A `*`
 *   matches one part, or characters in it.
 * @returns The inputs with links resolved; otherwise the first input that is not allowed, with the reason.
 */
export async function allowedInputs(
  inputs: readonly string[],
  allowed: readonly string[],
): Promise<{ readonly inputs: string[] } | { readonly refused: string; readonly why: string }> {
  const places = (await Promise.all(allowed.map(allowedPlace))).filter((place) => place !== null);
  const found: string[] = [];
  for (const input of inputs) {
    try {
      const { below, input: resolved } = await find(input);
      const elsewhere = resolved === input ? "" : ` but leads to ${resolved}`;
      if (!places.some((place) => covers(place, below)))
        return { refused: input, why: `it is not below ${allowed.join(" or ")}${elsewhere}` };
      found.push(resolved);
    } catch (error) {
      return { refused: input, why: messageOf(error) };
    }
  }
  return { inputs: found };
}

/** Why a path, with links resolved, is not below one of the allowed places; null if it is. */
export async function whyOutside(path: string, allowed: readonly string[]): Promise<string | null> {
  const outcome = await allowedInputs([path], allowed);
  return "refused" in outcome ? outcome.why : null;
}

async function find(input: string): Promise<Found> {
  if (input === STDIN) throw new Error("standard input is nobody else's");
  return /^s3:/i.test(input) ? findInBucket(input) : findFile(input);
}

function findInBucket(url: string): Found {
  const { bucket, key } = parseS3Url(url);
  const { isGlob, base } = picomatch.scan(key);
  const below = partsOf(isGlob ? base : key);
  if (below.some((part) => part === "." || part === "..")) throw new Error("it has . or .. in it");
  return { below: ["s3:", bucket, ...below], input: url };
}

async function findFile(input: string): Promise<Found> {
  const path = resolve(input);
  const { isGlob, base, glob } = picomatch.scan(toPosix(path));
  // A file's own name may look like a pattern; listing treats it the same way.
  const real = await realpath(path).catch((error: unknown) => {
    if (isGlob) return null;
    throw error;
  });
  if (real !== null) return { below: filePartsOf(real), input: real };
  const folder = toPosix(await realpath(base));
  const pattern = posix.join(folder, glob);
  if (picomatch.scan(pattern).base !== folder) throw new Error(`${folder} looks like a pattern itself`);
  return { below: filePartsOf(folder), input: pattern };
}

/** Null when the folder does not exist: nothing is below it. */
async function allowedPlace(entry: string): Promise<Parts | null> {
  if (/^s3:/i.test(entry)) {
    const { bucket = "", key = "" } = /^s3:\/\/(?<bucket>[^/]+)\/?(?<key>.*)$/i.exec(entry)?.groups ?? {};
    return ["s3:", bucket, ...withoutStars(partsOf(key))];
  }
  const path = resolve(entry);
  const { isGlob, base, glob } = picomatch.scan(toPosix(path));
  const folder = await realpath(isGlob ? base : path).catch(() => null);
  if (folder === null) return null;
  return withoutStars([...filePartsOf(folder), ...(isGlob ? partsOf(glob) : [])]);
}

/** `/data/**` means everything below `/data`, as `/data` does. */
function withoutStars(parts: Parts): Parts {
  return parts.at(-1) === "**" ? withoutStars(parts.slice(0, -1)) : parts;
}

function covers(place: Parts, below: Parts): boolean {
  return (
    place.length <= below.length &&
    place.every((part, i) => part === below[i] || (part.includes("*") && picomatch.isMatch(below[i]!, part)))
  );
}

function filePartsOf(path: string): Parts {
  return ["", ...partsOf(toPosix(path).replace(/^\//, ""))];
}

function partsOf(path: string): Parts {
  const plain = path.replace(/\/$/, "");
  return plain === "" ? [] : plain.split("/");
}
