/** The sandboxed process: one session, one request at a time. It exits with its parent. */
import { allocateShard, type BatchReport, type ShardBuffers } from "../../src/core/batch.ts";
import type { Head } from "../../src/core/contracts.ts";
import { asFleetError, type FaultFields, toFaultFields } from "../../src/core/errors.ts";
import { ModelSession } from "./session.ts";
import type { SessionParams } from "./session-params.ts";

export type SandboxRequest =
  | { readonly kind: "open"; readonly session: SessionParams }
  | {
      readonly kind: "embed";
      readonly heads: readonly Head[];
      readonly dim: number;
      readonly ids: readonly Int32Array[];
    };

export type SandboxReply =
  | { readonly kind: "ready" }
  | { readonly kind: "done"; readonly shard: ShardBuffers; readonly report: BatchReport }
  | { readonly kind: "failed"; readonly fault: FaultFields };

let session: ModelSession | null = null;

async function answer(request: SandboxRequest): Promise<SandboxReply> {
  if (request.kind === "open") {
    session = await ModelSession.open(request.session);
    return { kind: "ready" };
  }
  const { ids, dim, heads } = request;
  const shard = allocateShard({ lengths: ids.map((row) => row.length), dim, heads });
  ids.forEach((row, index) => shard.ids.set(row, shard.offsets[index]));
  const report = await session!.run(ids.map((_, row) => ({ shard, row })));
  return { kind: "done", shard: unshared(shard), report };
}

/** A copy in ordinary memory, as shared memory cannot be sent to another process. */
function unshared(shard: ShardBuffers): ShardBuffers {
  const entries = Object.entries(shard).map(([name, value]) => [
    name,
    ArrayBuffer.isView(value) ? copyOf(value) : value,
  ]);
  return Object.fromEntries(entries) as ShardBuffers;
}

function copyOf(view: ArrayBufferView): unknown {
  return (view as Float32Array).slice();
}

process.on("message", (request: SandboxRequest) => {
  void answer(request)
    .catch((error: unknown): SandboxReply => ({
      kind: "failed",
      fault: toFaultFields(asFleetError(error, "inference_failed")),
    }))
    // A send to a parent that is gone fails; `disconnect` then ends this process, too.
    .then((reply) => process.send!(reply, undefined, undefined, () => {}));
});
process.on("disconnect", () => process.exit());
