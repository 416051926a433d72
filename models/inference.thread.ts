/** The thread that owns the session. `session.run` blocks whoever calls it, so nobody else does. */
import { parentPort, workerData } from "node:worker_threads";
import type { RowRef, ShardBuffers } from "../src/core/batch.ts";
import { FleetError, messageOf } from "../src/core/errors.ts";
import { ModelSession, type SessionParams } from "./session.ts";

/** Shards by position, and rows as (shard, row) pairs, so that a message stays small. */
export interface BatchRequest {
  readonly id: number;
  readonly shards: readonly ShardBuffers[];
  readonly shardOf: Uint32Array;
  readonly rowOf: Uint32Array;
}

export type ThreadReply =
  | { readonly kind: "ready"; readonly notes: readonly string[] }
  | { readonly kind: "done"; readonly id: number; readonly startedAtMs: number; readonly finishedAtMs: number }
  | {
      readonly kind: "failed";
      readonly id: number | null;
      readonly code: string;
      readonly message: string;
      readonly cure: string | undefined;
    };

const port = parentPort!;

function reply(message: ThreadReply): void {
  port.postMessage(message);
}

function replyFailure(id: number | null, error: unknown): void {
  const fault = error instanceof FleetError ? error : null;
  reply({ kind: "failed", id, code: fault?.code ?? "inference_failed", message: messageOf(error), cure: fault?.cure });
}

async function serve(session: ModelSession, request: BatchRequest): Promise<void> {
  try {
    const rows: RowRef[] = Array.from(request.rowOf, (row, i) => ({
      shard: request.shards[request.shardOf[i]!]!,
      row,
    }));
    reply({ kind: "done", id: request.id, ...(await session.run(rows)) });
  } catch (error) {
    replyFailure(request.id, error);
  }
}

try {
  const session = await ModelSession.open(workerData as SessionParams);
  // One at a time and in order: a session runs one batch at a time anyway.
  let turn = Promise.resolve();
  port.on("message", (request: BatchRequest) => {
    turn = turn.then(() => serve(session, request));
  });
  reply({ kind: "ready", notes: session.notes });
} catch (error) {
  replyFailure(null, error);
}
