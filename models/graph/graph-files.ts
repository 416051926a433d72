/** Finds the files that a graph loads on the disk: inside the model's folder, and as long as the graph needs. */
import { realpathSync } from "node:fs";
import { dirname, isAbsolute, join, posix, relative, sep, win32 } from "node:path";
import { FleetError, messageOf } from "../../src/core/errors.ts";
import { type GraphSignature, signatureOf } from "./graph-signature.ts";
import { filesOfGraph, type GraphFile } from "./onnx-reader.ts";
import { type PlainFile, statPlain, withPlainFile } from "../registry/plain-file.ts";

/**
 * The paths of the files that a graph keeps weights in, which may not be there yet: what a download has to fetch.
 *
 * @param graph Path of the graph in the folder.
 * @throws FleetError `model_invalid` for a graph that cannot be read or that names a path outside the folder.
 */
export function namedFilesOf(folder: string, graph: string): string[] {
  const path = join(folder, graph);
  const places = readGraph(path, filesOfGraph).map(({ location }) => {
    assertRelative(path, location);
    return posix.join(posix.dirname(graph), location);
  });
  return [...new Set(places)].sort();
}

/**
 * @param graph Path relative to the folder.
 * @returns Paths relative to the folder, in order.
 * @throws `UnreadableGraph`, and FleetError `model_invalid` for a file that the runtime may not load.
 */
export function externalFilesOf(folder: string, graph: string): string[] {
  const path = join(folder, graph);
  const files: GraphFile[] = readGraph(path, filesOfGraph);
  // In a hub's cache, a model's files and the graph are links into one folder; files beside the target are the model's.
  const homes = [folder, dirname(realpathSync(path))].map((home) => realpathSync(home));
  const paths = files.map(({ location, leastBytes }) => {
    assertRelative(path, location);
    const place = posix.join(posix.dirname(graph), location);
    assertUsable({ folder, graph: path, place, leastBytes, homes });
    return place;
  });
  return [...new Set(paths)].sort();
}

/** A graph that cannot be read here, although the runtime may find files in it. */
export class UnreadableGraph extends FleetError {
  constructor(path: string, reason: string, cause?: unknown) {
    super("model_invalid", `ONNX Runtime cannot load ${path}: ${reason}`, {
      cure: "the file is damaged or not an ONNX graph: pull or export the model again",
      cause,
    });
  }
}

/**
 * Requires every file that the runtime loads beside a graph to be among those with digests.
 *
 * @param params.graph Path relative to the folder, like `listed`.
 * @throws FleetError `model_invalid`
 */
export function assertListed(params: Readonly<{ folder: string; graph: string; listed: readonly string[] }>): void {
  const { folder, graph } = params;
  const listed = new Set(params.listed.map((path) => posix.normalize(path)));
  const unlisted = externalFilesOf(folder, graph).filter((path) => !listed.has(path));
  if (unlisted.length === 0) return;
  throw new FleetError(
    "model_invalid",
    `${join(folder, graph)} loads ${someOf(unlisted)}, which the model's manifest.json does not list`,
    {
      cure: "list every file of the graph's external data under weights, or export the model again: see docs/models.md",
    },
  );
}

function someOf(paths: readonly string[]): string {
  const some = paths.slice(0, 3).map((path) => JSON.stringify(path));
  return paths.length > some.length
    ? `${some.join(", ")} and ${paths.length - some.length} more files`
    : some.join(", ");
}

/** Inputs and outputs of a graph. @throws `UnreadableGraph` */
export function readSignature(path: string): GraphSignature {
  return readGraph(path, signatureOf);
}

function readGraph<T>(path: string, read: (file: PlainFile) => T): T {
  // The runtime treats a name with this ending as its own format, which cannot be read here.
  if (path.toLowerCase().endsWith(".ort")) throw new UnreadableGraph(path, "it is in ONNX Runtime's own format");
  try {
    return withPlainFile(path, read);
  } catch (error) {
    throw error instanceof FleetError ? error : new UnreadableGraph(path, messageOf(error), error);
  }
}

/** Stars: the runtime uses names with them for places in memory. */
const NEVER_IN_A_PATH = /[\\*\p{Cc}]/u;

function assertRelative(graph: string, location: string): void {
  const isRelative = !isAbsolute(location) && !win32.isAbsolute(location) && !location.split("/").includes("..");
  if (isRelative && !NEVER_IN_A_PATH.test(location)) return;
  throw refused(graph, location, "is not a plain path inside the model's folder");
}

function assertUsable(
  params: Readonly<{ folder: string; graph: string; place: string; leastBytes: number; homes: readonly string[] }>,
): void {
  const { folder, graph, place, leastBytes, homes } = params;
  const path = join(folder, place);
  const stats = statOf(graph, place, path);
  if (!homes.some((home) => isInside(home, realpathSync(path))))
    throw refused(graph, place, "is a link that leads out of the model's folder");
  if (stats.bytes < leastBytes)
    throw refused(graph, place, `has ${stats.bytes} bytes, and the graph takes bytes of it up to ${leastBytes}`);
}

function statOf(graph: string, place: string, path: string): Readonly<{ bytes: number }> {
  try {
    return statPlain(path);
  } catch (error) {
    const isMissing = (error as NodeJS.ErrnoException).code === "ENOENT";
    throw refused(graph, place, isMissing ? "is not there" : `cannot be used: ${messageOf(error)}`);
  }
}

function isInside(home: string, path: string): boolean {
  const way = relative(home, path);
  return way !== "" && way !== ".." && !way.startsWith(`..${sep}`) && !isAbsolute(way);
}

function refused(graph: string, place: string, reason: string): FleetError {
  return new FleetError("model_invalid", `${graph} keeps weights in ${JSON.stringify(place)}, which ${reason}`, {
    cure: "put every file of the model into its folder as a regular file: pull or export the model again",
  });
}
