/**
 * A delta and the runs it builds on. The effective rows of a chain are the oldest run's, minus the rows that each newer
 * run deletes, plus those it adds: the same rows as in a full run over the newest corpus.
 */
import { IdSet } from "../disk/id-set.ts";
import type { ClosedRecord, Manifest } from "../core/contracts.ts";
import { FleetError } from "../core/errors.ts";
import type { ObjectStore } from "../core/ports.ts";
import { rowKey } from "../core/rows.ts";
import { readDeletes } from "./read-lists.ts";
import { requireClosed } from "./read-plan.ts";
import { readSealed, sealedRows, type ShardRows } from "./sealed-rows.ts";

/**
 * The manifests of a sealed run and of the runs it builds on, newest first.
 * @throws FleetError `run_unknown`, `run_incomplete`, `object_corrupt`
 */
export async function readChain(store: ObjectStore, run: string): Promise<Manifest[]> {
  const chain: Manifest[] = [];
  for (let next: string | undefined = run; next !== undefined; next = chain.at(-1)!.base) {
    if (chain.some((manifest) => manifest.run === next))
      throw new FleetError("object_corrupt", `run ${run} builds on itself, via ${next}`);
    chain.push(await readSealed(store, next));
  }
  return chain;
}

/**
 * Checks a sealed run's manifest against its closed plan, to detect a run that was sealed with rows missing.
 * @throws FleetError `plan_invalid`, `object_corrupt`
 */
export async function proveSealed(store: ObjectStore, manifest: Manifest): Promise<ClosedRecord> {
  const closed = await requireClosed(store, manifest.run);
  const fault = sealFault(manifest, closed);
  if (fault === null) return closed;
  throw new FleetError("object_corrupt", `run ${manifest.run} is sealed but incomplete: ${fault}`, {
    cure: "run the whole corpus again under another id; missing rows cannot be added to a sealed run",
  });
}

/** A difference between a manifest and the closed plan; null when every planned row is in the manifest or rejected. */
export function sealFault({ totals, files, deletes }: Manifest, closed: ClosedRecord): string | null {
  const counts: [what: string, sealed: number, planned: number][] = [
    ["documents", totals.documents, closed.documents],
    ["rows and rejects", totals.rows + totals.rejects, closed.rows + closed.rejects],
    ["shards", totals.shards, closed.shards],
    ["files", files.length, closed.shards],
    ["rows in its files", files.reduce((sum, { rows }) => sum + rows, 0), totals.rows],
    ["lists of deleted rows", deletes?.length ?? 0, closed.deletes?.length ?? 0],
  ];
  const wrong = counts.find(([, sealed, planned]) => sealed !== planned);
  return wrong === undefined ? null : `its manifest has ${wrong[1]} ${wrong[0]} where ${wrong[2]} were planned`;
}

/** The rows of one result file of a chain. */
export interface EffectiveRows extends ShardRows {
  readonly manifest: Manifest;
  /** Row numbers of the rows that no newer run has deleted, ascending. */
  readonly kept: Uint32Array;
}

/** The rows of every result file of a chain, newest run first. */
export async function* readEffective(store: ObjectStore, chain: readonly Manifest[]): AsyncGenerator<EffectiveRows> {
  for await (const { manifest, isKept } of walkChain(store, chain)) {
    for await (const { shard, rows } of sealedRows(store, manifest)) {
      const all = Uint32Array.from(rows.ids.keys());
      yield { manifest, shard, rows, kept: all.filter((row) => isKept(rows.ids[row]!, rows.chunks[row]!)) };
    }
  }
}

interface ChainStep {
  readonly manifest: Manifest;
  /** Whether no newer run has deleted the row; valid for this run's rows, and before the next step. */
  readonly isKept: (id: string, chunk: number) => boolean;
}

/** The runs of a chain, newest first. The set of deleted rows is on disk, so memory is bounded. */
export async function* walkChain(store: ObjectStore, chain: readonly Manifest[]): AsyncGenerator<ChainStep> {
  const gone = new IdSet();
  const isKept = (id: string, chunk: number): boolean => gone.size === 0 || !gone.has(rowKey(id, chunk));
  try {
    for (const manifest of chain) {
      yield { manifest, isKept };
      for await (const { ids, chunks } of readDeletes(store, manifest)) {
        ids.forEach((id, i) => gone.add(rowKey(id, chunks[i]!)));
      }
    }
  } finally {
    gone.close();
  }
}
