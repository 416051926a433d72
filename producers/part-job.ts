/** A part of a corpus as a job that names it, and back, for whoever takes the job. */
import { createHash } from "node:crypto";
import { isAbsolute, relative } from "node:path";
import picomatch from "picomatch";
import { CONTRACT_VERSION, type RunRecord } from "../src/core/contracts.ts";
import { FleetError } from "../src/core/errors.ts";
import { type PartJob, partId, type PartList, partListSchema } from "../src/core/ingest.ts";
import { parseRecord } from "../src/core/json.ts";
import { runKeys } from "../src/core/layout.ts";
import type { ObjectStore } from "../src/core/ports.ts";
import type { CorpusPart, WholeObject } from "./sources/parts.ts";

/** A thousand of the longest names and paths. */
const MAX_LIST_BYTES = 32 * 1024 * 1024;

/** What is put up for others. */
export interface OfferedPart {
  readonly job: PartJob;
  /** To be in the store before the job is in the queue: of many objects, which ones. */
  readonly list: Uint8Array | null;
}

/** @param index The part's place in the corpus. */
export function offerOf(part: CorpusPart, run: string, index: number): OfferedPart {
  if (!("objects" in part)) {
    const digest = digestOf(JSON.stringify(part));
    return { job: { v: CONTRACT_VERSION, run, part: partId(index, digest), what: part }, list: null };
  }
  const { name, objects } = part;
  const content: PartList = { version: CONTRACT_VERSION, objects: [...objects] };
  const list = Buffer.from(JSON.stringify(content));
  const what = { name, objects: objects.length };
  return { job: { v: CONTRACT_VERSION, run, part: partId(index, digestOf(list)), what }, list };
}

/**
 * Jobs come from a queue that others can write to; the run's record does not.
 *
 * @throws FleetError `job_invalid` for a part that is not of the run's corpus, `object_corrupt` and `object_missing` of a
 *   list of objects
 */
export async function partOf(
  { part, what }: PartJob,
  params: Readonly<{ store: ObjectStore; record: RunRecord }>,
): Promise<CorpusPart> {
  const { store, record } = params;
  if (!("objects" in what)) {
    assertOfCorpus([what], record);
    return what;
  }
  const key = runKeys(record.run).partList(part);
  const bytes = await store.read({ key, maxBytes: MAX_LIST_BYTES });
  if (!part.endsWith(partId(0, digestOf(bytes)).slice(-16)))
    throw new FleetError("object_corrupt", `${store.url}/${key} is not the list that part ${part} was named by`, {
      cure: "remove the object, and run enqueue again with the same --run id",
    });
  const { objects } = parseRecord(bytes, { schema: partListSchema, name: `${store.url}/${key}` });
  assertOfCorpus(objects, record);
  return { name: what.name, objects, range: null };
}

function digestOf(content: string | Uint8Array): string {
  return createHash("sha256").update(content).digest("hex");
}

// --- What is of a corpus ----------------------------------------------------------------------

function assertOfCorpus(objects: readonly WholeObject[], { run, inputs }: RunRecord): void {
  const tests = inputs.map(belongsTo);
  const stranger = objects.find(({ place }) => !tests.some((isOf) => isOf(place)));
  if (stranger === undefined) return;
  throw new FleetError("job_invalid", `the corpus of run ${run} has no ${shown(stranger.place)}`, {
    cure: "the job is forged, or of another version of embedfleet; nothing was read",
  });
}

type Place = WholeObject["place"];

function belongsTo(input: string): (place: Place) => boolean {
  const { isGlob, base } = picomatch.scan(input);
  const start = isGlob ? literalStart(input) : `${input.replace(/\/$/, "")}/`;
  const folder = isGlob ? base || "." : input;
  return (place) => {
    if (place.kind === "file") return isBelow(folder, place.path);
    const url = shown(place);
    return url === input || url.startsWith(start);
  };
}

function shown(place: Place): string {
  return place.kind === "file" ? place.path : `s3://${place.bucket}/${place.entry.key}`;
}

function literalStart(pattern: string): string {
  return pattern.slice(0, pattern.search(/[*?[\]{}()!+@\\]/));
}

function isBelow(folder: string, path: string): boolean {
  const way = relative(folder, path);
  return way === "" || (!way.startsWith("..") && !isAbsolute(way));
}
