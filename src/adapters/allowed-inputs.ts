/** Whether what an object of the store has a process read lies below what that process was told to allow. */
import { realpath } from "node:fs/promises";
import { posix, resolve } from "node:path";
import picomatch from "picomatch";
import { messageOf } from "../core/errors.ts";
import { parseS3Url, STDIN, toPosix } from "./input-address.ts";

/** A place by its parts: `["s3:", "bucket", "folder"]` or `["", "data", "folder"]`. */
type Parts = readonly string[];

interface Found {
  /** Everything that is read lies below it. */
  readonly below: Parts;
  /** What to read, with links resolved, so that they cannot lead elsewhere later. */
  readonly input: string;
}

/**
 * @param allowed Folders and `s3://bucket/prefix`, compared part by part: `s3://b/a` does not allow `s3://b/ab`. A `*`
 *   stands for one part, or for characters in it.
 * @returns The inputs with links resolved; or of the first that is not below any of them which one, and why.
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
  // A file's own name may look like a pattern; listing it goes the same way.
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

/** Null for a folder that is not there: nothing is below it. */
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

/** `/data/**` is everything below `/data`, as `/data` is. */
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
