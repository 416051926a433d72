/** A store that reports an event for each call. */
import type {
  ByteRange,
  CreateOutcome,
  ObjectInfo,
  ObjectStore,
  ReplaceOutcome,
  VersionedBody,
} from "../core/ports.ts";
import { type FleetEvent, nowMs, type Observe } from "../core/telemetry.ts";

type StoreEvent = Extract<FleetEvent, { kind: "store" }>;
type Call = Pick<StoreEvent, "operation" | "object">;
type Ended = Pick<StoreEvent, "outcome" | "bytes">;

export class ObservedStore implements ObjectStore {
  readonly #store: ObjectStore;
  readonly #observe: Observe;

  constructor(store: ObjectStore, observe: Observe) {
    this.#store = store;
    this.#observe = observe;
  }

  get url(): string {
    return this.#store.url;
  }

  create(params: Readonly<{ key: string; body: Uint8Array }>): Promise<CreateOutcome> {
    return this.#tell(
      { operation: "create", object: kindOf(params.key) },
      () => this.#store.create(params),
      (outcome) => ({ outcome, bytes: outcome === "created" ? params.body.length : 0 }),
    );
  }

  replace(params: Readonly<{ key: string; body: Uint8Array; ifVersion?: string | null }>): Promise<ReplaceOutcome> {
    return this.#tell(
      { operation: "replace", object: kindOf(params.key) },
      () => this.#store.replace(params),
      (outcome) => ({ outcome: "ok", bytes: outcome === "replaced" ? params.body.length : 0 }),
    );
  }

  readVersion(params: Readonly<{ key: string; maxBytes?: number }>): Promise<VersionedBody | null> {
    return this.#tell(
      { operation: "read", object: kindOf(params.key) },
      () => this.#store.readVersion(params),
      (found) => ({ outcome: "ok", bytes: found?.body.length ?? 0 }),
    );
  }

  read(params: Readonly<{ key: string; range?: ByteRange; maxBytes?: number }>): Promise<Uint8Array> {
    return this.#tell(
      { operation: "read", object: kindOf(params.key) },
      () => this.#store.read(params),
      (bytes) => ({ outcome: "ok", bytes: bytes.length }),
    );
  }

  stat(params: Readonly<{ key: string }>): Promise<ObjectInfo | null> {
    const call: Call = { operation: "stat", object: kindOf(params.key) };
    return this.#tell(call, () => this.#store.stat(params), done);
  }

  /** The duration of a listing includes its consumer's, so only its start is reported. */
  async *list(params: Readonly<{ prefix: string }>): AsyncGenerator<ObjectInfo> {
    const items = this.#store.list(params)[Symbol.asyncIterator]();
    const call: Call = { operation: "list", object: kindOf(params.prefix) };
    let next = await this.#tell(call, () => items.next(), done);
    try {
      for (; next.done !== true; next = await items.next()) yield next.value;
    } finally {
      await items.return?.();
    }
  }

  remove(params: Readonly<{ key: string }>): Promise<void> {
    const call: Call = { operation: "remove", object: kindOf(params.key) };
    return this.#tell(call, () => this.#store.remove(params), done);
  }

  close(): Promise<void> {
    return this.#store.close();
  }

  async #tell<T>(call: Call, act: () => Promise<T>, ended: (value: T) => Ended): Promise<T> {
    const startedAtMs = nowMs();
    const tell = (end: Ended): void =>
      this.#observe({ kind: "store", ...call, ...end, durationMs: nowMs() - startedAtMs });
    try {
      const value = await act();
      tell(ended(value));
      return value;
    } catch (error) {
      tell({ outcome: "failed", bytes: 0 });
      throw error;
    }
  }
}

function done(): Ended {
  return { outcome: "ok", bytes: 0 };
}

/** Kind of an object: `runs/r/data/x.arrow` is `data`. The number of kinds is small enough for a label. */
function kindOf(key: string): string {
  const [root = "", , folder = ""] = key.split("/");
  if (root !== "runs") return root.endsWith(".json") ? "latest" : root === "fleets" ? "marker" : "other";
  if (folder === "plan") return key.endsWith(".arrows") ? "staged" : "plan";
  return folder === "data" || folder === "rejects" ? folder : "record";
}
