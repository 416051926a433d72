/** Checks whether the inputs of a corpus include an object: the rules of `listInput`, without a disk or a server. */
import { join, relative } from "node:path";
import picomatch from "picomatch";
import type { Format } from "../../src/core/selection.ts";
import { isWanted, passedByPath } from "./formats.ts";
import { parseS3Url, toPosix } from "../../src/adapters/input-address.ts";
import type { Place } from "./objects.ts";

/** A place that another process can open. */
type NamedPlace = Exclude<Place, { kind: "pipe" }>;
type S3Place = NamedPlace & { kind: "s3" };

/** @param inputs Files, folders, patterns or `s3://…`; only the disk can distinguish the first two. */
export function namedBy(inputs: readonly string[], format: Format): (place: NamedPlace) => boolean {
  const exact = new Set(inputs);
  const files = inputs.filter((input) => !isS3(input)).map((input) => fileTest(input, format));
  const objects = inputs.filter(isS3).map((input) => objectTest(input, format));
  return (place) =>
    place.kind === "s3"
      ? objects.some((isNamed) => isNamed(place))
      : exact.has(place.path) || files.some((isNamed) => isNamed(place.path));
}

export function shownPlace(place: NamedPlace): string {
  return place.kind === "file" ? place.path : `s3://${place.bucket}/${place.entry.key}`;
}

function isS3(input: string): boolean {
  return /^s3:/i.test(input);
}

function fileTest(input: string, format: Format): (path: string) => boolean {
  const wants = (below: string): boolean => isWanted(below, format);
  const { base, glob, isGlob } = picomatch.scan(toPosix(input));
  if (!isGlob) return (path) => isBelow(input, path, wants);
  const isMatch = picomatch(glob);
  const matches = (below: string): boolean => isMatch(below) && passedByPath(below) === null;
  return (path) => isBelow(base || ".", path, matches) || isBelow(input, path, wants);
}

/** Whether a path in the exact spelling of `listInput` is below the folder; other spellings are not accepted. */
function isBelow(folder: string, path: string, wants: (below: string) => boolean): boolean {
  const below = toPosix(relative(folder, path));
  return below !== "" && join(folder, below) === path && wants(below);
}

function objectTest(input: string, format: Format): (place: S3Place) => boolean {
  const { bucket, key } = parseS3Url(input);
  const { base, glob, isGlob } = picomatch.scan(key);
  const folder = isGlob ? base : key.replace(/\/$/, "");
  const prefix = folder === "" ? "" : `${folder}/`;
  const isMatch = isGlob ? picomatch(glob) : (below: string): boolean => isWanted(below, format);
  return ({ bucket: name, entry }) => {
    if (name !== bucket) return false;
    if (!isGlob && entry.key === key) return true;
    const below = entry.key.slice(prefix.length);
    return entry.key.startsWith(prefix) && passedByPath(below) === null && isMatch(below);
  };
}
