/** The part of LanceDB's API that is used. LanceDB is an add-on with its own packages and another apache-arrow. */
import { createRequire } from "node:module";
import { fileURLToPath, pathToFileURL } from "node:url";
import type { Table } from "apache-arrow";
import { FleetError, messageOf } from "../core/errors.ts";

type LanceData = Record<string, unknown>[] | Table;

interface LanceMerge {
  whenMatchedUpdateAll(): LanceMerge;
  whenNotMatchedInsertAll(): LanceMerge;
  execute(data: LanceData): Promise<unknown>;
}

export interface LanceQuery {
  distanceType(type: "dot"): LanceQuery;
  column(name: string): LanceQuery;
  select(columns: string[]): LanceQuery;
  limit(rows: number): LanceQuery;
  nprobes(partitions: number): LanceQuery;
  // oxlint-disable-next-line typescript/no-explicit-any -- LanceDB's own type of a row
  toArray(): Promise<any[]>;
}

export interface LanceTable {
  add(data: LanceData): Promise<unknown>;
  countRows(filter?: string): Promise<number>;
  delete(predicate: string): Promise<unknown>;
  createIndex(column: string, options?: { config?: unknown; replace?: boolean }): Promise<void>;
  listIndices(): Promise<readonly { readonly columns: readonly string[] }[]>;
  optimize(): Promise<unknown>;
  mergeInsert(on: string): LanceMerge;
  vectorSearch(vector: Float32Array): LanceQuery;
  query(): { toArray(): Promise<Record<string, unknown>[]> };
  schema(): Promise<{ readonly fields: readonly { readonly name: string }[] }>;
  close(): void;
}

export interface LanceConnection {
  tableNames(): Promise<string[]>;
  openTable(name: string): Promise<LanceTable>;
  createTable(name: string, data: LanceData): Promise<LanceTable>;
  close(): void;
}

export interface Lance {
  connect(uri: string, options?: { storageOptions?: Record<string, string> }): Promise<LanceConnection>;
  readonly Index: {
    ivfFlat(options: { distanceType: "dot" }): unknown;
    btree(): unknown;
    fts(): unknown;
  };
}

/** The add-on's folder, relative to `dist/src/adapters/`. */
const ADDON = fileURLToPath(new URL("../../../infra/lancedb/", import.meta.url));

/** Loads LanceDB. @throws FleetError `addon_missing`, with the command that installs it. */
export async function loadLance(addonFolder: string = ADDON): Promise<Lance> {
  try {
    const path = createRequire(`${addonFolder}package.json`).resolve("@lancedb/lancedb");
    return (await import(pathToFileURL(path).href)) as Lance;
  } catch (error) {
    throw new FleetError(
      "addon_missing",
      `LanceDB is an add-on that is not installed: ${messageOf(error).split("\n")[0]}`,
      {
        cure: `install it: npm ci --ignore-scripts --prefix ${addonFolder}`,
        cause: error,
      },
    );
  }
}
