/** Proof that a result file is exactly the planned shard. Used by `seal` and by `verify`. */
import { createHash } from "node:crypto";
import { decodeResults, type ResultFile } from "../arrow/results.ts";
import { MAX_DATA_FILE_BYTES, type Reject, rejectSchema, type RunRecord, type ShardPlan } from "../core/contracts.ts";
import { FleetError, hasCode, messageOf } from "../core/errors.ts";
import { runKeys } from "../core/layout.ts";
import type { ObjectStore } from "../core/ports.ts";
import { RowDigest, textHashOf } from "../core/rows.ts";

export interface InspectedShard {
  readonly key: string;
  readonly bytes: number;
  readonly sha256: string;
  readonly file: ResultFile;
  readonly rejects: readonly Reject[];
  /** Null when file and rejects together are the planned rows; otherwise the problem. */
  readonly fault: string | null;
}

/** @throws FleetError `object_missing`, `object_corrupt` */
export async function inspectShard(store: ObjectStore, record: RunRecord, plan: ShardPlan): Promise<InspectedShard> {
  const { run, options } = record;
  const key = runKeys(run).data(plan.shard);
  const bytes = await store.read({ key, maxBytes: MAX_DATA_FILE_BYTES });
  const file = decodeResults({ run, shard: plan.shard, options, bytes });
  const rejects = file.rejectsKey === null ? [] : await readShardRejects(store, record, plan, file.rejectsKey);
  return {
    key,
    bytes: bytes.length,
    sha256: createHash("sha256").update(bytes).digest("hex"),
    file,
    rejects,
    fault: findFault(file, plan, rejects),
  };
}

function findFault(file: ResultFile, plan: ShardPlan, rejects: readonly Reject[]): string | null {
  const rows = file.rows.ids.length;
  if (rows + rejects.length !== plan.rows) {
    return `${rows} rows and ${rejects.length} rejects where ${plan.rows} rows were planned`;
  }
  if (file.stats.rows !== rows || file.stats.rejects !== rejects.length) return "its own figures do not match its rows";
  if (digestOf(file, plan, rejects) !== plan.rowsSha256) return "its rows are not the rows that were planned";
  if (plan.stagedSha256 === undefined || file.stagedSha256 === plan.stagedSha256) return null;
  return `its vectors were computed from staged rows with sha256 ${file.stagedSha256}; ${plan.stagedSha256} was planned`;
}

/** Digest of the shard's rows in planned order, each rejected one inserted at its position. */
function digestOf(file: ResultFile, plan: ShardPlan, rejects: readonly Reject[]): string {
  const rejectAt = new Map(rejects.map((reject) => [reject.row, reject]));
  const digest = new RowDigest();
  let next = 0;
  for (let position = 0; position < plan.rows; position++) {
    const reject = rejectAt.get(position);
    if (reject !== undefined) digest.add(reject.id ?? "", reject.chunk ?? 0, Buffer.from(reject.textHash ?? "", "hex"));
    else if (next < file.rows.ids.length) {
      digest.add(file.rows.ids[next]!, file.rows.chunks[next]!, textHashOf(file.rows, next));
      next++;
    }
  }
  return digest.hex();
}

async function readShardRejects(
  store: ObjectStore,
  record: RunRecord,
  plan: ShardPlan,
  key: string,
): Promise<Reject[]> {
  const { rejectsPrefix } = runKeys(record.run);
  if (!key.startsWith(`${rejectsPrefix}${plan.shard}.`)) {
    throw new FleetError(
      "object_corrupt",
      `shard ${plan.shard} names ${JSON.stringify(key)} as its reject file, which belongs to another shard`,
    );
  }
  return readRejects(store, key).catch((error: unknown) => {
    if (!hasCode(error, "object_missing")) throw error;
    throw new FleetError(
      "object_corrupt",
      `shard ${plan.shard} names ${key} as its reject file, which does not exist`,
      {
        cure: `delete ${runKeys(record.run).data(plan.shard)}, then \`embedfleet resume ${record.run}\`: the shard is computed again`,
        cause: error,
      },
    );
  });
}

/** @throws FleetError `object_corrupt` */
export async function readRejects(store: ObjectStore, key: string): Promise<Reject[]> {
  return parseRejects(await store.read({ key, maxBytes: MAX_DATA_FILE_BYTES }), `${store.url}/${key}`);
}

/** @throws FleetError `object_corrupt` */
export function parseRejects(bytes: Uint8Array, name: string): Reject[] {
  try {
    return Buffer.from(bytes)
      .toString("utf8")
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => rejectSchema.parse(JSON.parse(line)));
  } catch (error) {
    throw new FleetError("object_corrupt", `${name} is not a list of rejects: ${messageOf(error)}`, {
      cause: error,
    });
  }
}
