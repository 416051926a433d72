/** Messages between the threads of a `ThreadEmbedder`: a batch goes from the main thread through both and back. */
import type { MessagePort } from "node:worker_threads";
import type { BatchReport, RowRef, ShardBuffers } from "../../src/core/batch.ts";
import { asFleetError, type FaultFields, toFaultFields } from "../../src/core/errors.ts";
import type { BatchOutputs } from "./scatter.ts";
import type { OnnxManifest } from "../registry/manifest.ts";
import type { SessionParams } from "./session-params.ts";

/** Data of the thread that owns the session. */
export interface InferenceThreadData {
  readonly session: SessionParams;
  readonly toScatter: MessagePort;
}

/** Data of the thread that scatters outputs to their rows. */
export interface ScatterThreadData {
  readonly manifest: OnnxManifest;
  readonly fromInference: MessagePort;
}

/** Request to the inference thread: shards by position, rows as (shard, row) pairs, so that a message stays small. */
export interface BatchRequest {
  readonly id: number;
  readonly shards: readonly ShardBuffers[];
  readonly shardOf: Uint32Array;
  readonly rowOf: Uint32Array;
}

/** Outputs for the scatter thread, which sends the slot back when it is free again. */
export interface ComputedBatch {
  readonly request: BatchRequest;
  readonly report: BatchReport;
  /** Views of the output slots' memory, which both threads share. */
  readonly outputs: BatchOutputs;
  readonly slot: number;
}

/** Reply to the main thread, from either thread. */
export type ThreadReply =
  | { readonly kind: "ready"; readonly notes: readonly string[] }
  | { readonly kind: "done"; readonly id: number; readonly report: BatchReport }
  | {
      readonly kind: "failed";
      readonly id: number | null;
      readonly fault: FaultFields;
    };

export function toRequest(id: number, rows: readonly RowRef[]): BatchRequest {
  const places = new Map<ShardBuffers, number>();
  const shardOf = new Uint32Array(rows.length);
  rows.forEach(({ shard }, i) => {
    if (!places.has(shard)) places.set(shard, places.size);
    shardOf[i] = places.get(shard)!;
  });
  return { id, shards: [...places.keys()], shardOf, rowOf: Uint32Array.from(rows, ({ row }) => row) };
}

export function rowsOf({ shards, shardOf, rowOf }: BatchRequest): RowRef[] {
  return Array.from(rowOf, (row, i) => ({ shard: shards[shardOf[i]!]!, row }));
}

export function failureOf(id: number | null, error: unknown): ThreadReply {
  return { kind: "failed", id, fault: toFaultFields(asFleetError(error, "inference_failed")) };
}
