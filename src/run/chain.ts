/**
 * A delta and what it builds on. The effective rows of a chain are its oldest run's, less what each newer
 * run takes away, with what that one adds: the same rows as of a full run over the newest corpus.
 */
import { IdSet } from "../adapters/id-set.ts";
import type { Manifest } from "../core/contracts.ts";
import { FleetError } from "../core/errors.ts";
import type { ObjectStore } from "../core/ports.ts";
import { rowKey } from "../core/rows.ts";
import { readDeletes } from "./read-lists.ts";
import { readSealed, sealedRows, type ShardRows } from "./sealed-rows.ts";

/**
 * The manifests of a sealed run and of what it builds on, newest first.
 * @throws FleetError `run_unknown`, `run_incomplete`, `object_corrupt`
 */
export async function readChain(store: ObjectStore, run: string): Promise<Manifest[]> {
  const chain: Manifest[] = [];
  for (let next: string | undefined = run; next !== undefined; next = chain.at(-1)!.base) {
    if (chain.some((manifest) => manifest.run === next))
      throw new FleetError("object_corrupt", `run ${run} builds on itself, by way of ${next}`);
    chain.push(await readSealed(store, next));
  }
  return chain;
}

/** The rows of a result file of a chain. */
export interface EffectiveRows extends ShardRows {
  readonly manifest: Manifest;
  /** Those that no newer run has taken away: row numbers, ascending. */
  readonly kept: Uint32Array;
}

/** Every result file of a chain, newest run first. */
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
  /** Whether no newer run has taken the row away; for this run's rows, and before the next step. */
  readonly isKept: (id: string, chunk: number) => boolean;
}

/** The runs of a chain, newest first. What they take away is kept on disk: memory is bounded. */
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
