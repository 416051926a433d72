/** The rows of a sealed run, file by file, for search, evaluation and export. */
import { decodeResults, type ResultRows } from "../arrow/results.ts";
import type { Manifest } from "../core/contracts.ts";
import { FleetError } from "../core/errors.ts";
import type { ObjectStore } from "../core/ports.ts";
import { mapConcurrent } from "./map-concurrent.ts";
import { readSame } from "./read-lists.ts";
import { readRun } from "./read-plan.ts";
import { readManifest } from "./seal.ts";

/** One file is processed while the next one is read. */
const FILES_IN_FLIGHT = 2;

/** @throws FleetError `run_unknown`, `run_incomplete` when it is not sealed. */
export async function readSealed(store: ObjectStore, run: string): Promise<Manifest> {
  const manifest = await readManifest(store, run);
  if (manifest !== null) return manifest;
  await readRun(store, run);
  throw new FleetError("run_incomplete", `run ${run} is not sealed, so its rows are not complete`, {
    cure: `see what it waits for: embedfleet status ${run}`,
  });
}

export interface ShardRows {
  readonly shard: string;
  readonly rows: ResultRows;
}

/** Rows by file, in the manifest's order. Holds two files at most, whatever the run's size. */
export async function* sealedRows(
  store: ObjectStore,
  manifest: Manifest,
  files: Manifest["files"] = manifest.files,
): AsyncGenerator<ShardRows> {
  const { run, options } = manifest;
  async function* wanted(): AsyncGenerator<Manifest["files"][number]> {
    yield* files;
  }
  yield* mapConcurrent(wanted(), FILES_IN_FLIGHT, async (file) => {
    const { shard } = file;
    const bytes = await readSame(store, file);
    return { shard, rows: decodeResults({ run, shard, options, bytes }).rows };
  });
}
