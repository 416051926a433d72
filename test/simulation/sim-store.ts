/** The store in memory, under a scheduler: shared state, seen by each actor through its own handle. */
import type { ClosedRecord, WindowPlan } from "../../src/core/contracts.ts";
import { FleetError } from "../../src/core/errors.ts";
import { windowId } from "../../src/core/layout.ts";
import type { CreateOutcome, ObjectInfo, ObjectStore, ReplaceOutcome, VersionedBody } from "../../src/core/ports.ts";
import type { Sabotage } from "./sabotage.ts";
import type { Actor, Scheduler } from "./scheduler.ts";

export class SimStore {
  readonly objects = new Map<string, Uint8Array>();
  /** Why the promise "an object never changes" was broken; null while it holds. */
  violation: string | null = null;
  /** The chance that a call fails, before or after it took effect. */
  faultShare = 0;
  readonly #scheduler: Scheduler;
  readonly #sabotage: Sabotage;
  readonly #onCreate: (key: string) => void;
  readonly #writes = new Map<string, number>();
  #writeCount = 0;

  constructor(scheduler: Scheduler, sabotage: Sabotage, onCreate: (key: string) => void) {
    this.#scheduler = scheduler;
    this.#sabotage = sabotage;
    this.#onCreate = onCreate;
  }

  /** @param isSealer Whether the actor is one that may believe a listing, when that is sabotaged. */
  seenBy(actor: Actor, isSealer = false): ObjectStore {
    const believes = isSealer && this.#sabotage.sealsFromListing === true;
    const call = <T>(key: string, act: () => T): Promise<T> => this.#call(actor, key, act);
    const list = (prefix: string): Promise<ObjectInfo[]> =>
      call(prefix, () => {
        const found = this.#list(prefix);
        // A fault that no caller is told of: some of what is there is left out.
        return this.#scheduler.chance(this.faultShare) ? found.filter(() => this.#scheduler.chance(0.5)) : found;
      });
    return {
      url: "memory:///",
      create: ({ key, body }) => call(key, () => this.#create(this.#nameOf(key), body)),
      replace: ({ key, body, ifVersion }) => call(key, () => this.#replace(key, body, ifVersion)),
      readVersion: ({ key }) => call(key, () => this.#readVersion(key)),
      read: ({ key, range }) =>
        call(key, () => {
          const body = this.#read(this.#nameOf(key), range);
          return believes && key.endsWith("/plan/closed.json") ? this.#closedAsListed(key) : body;
        }),
      stat: ({ key }) =>
        call(key, () => {
          const body = this.objects.get(key);
          return body === undefined ? null : this.#info(key, body);
        }),
      async *list({ prefix }) {
        yield* await list(prefix);
      },
      remove: ({ key }) => call(key, () => void this.objects.delete(key)),
      close: async () => {},
    };
  }

  async #call<T>(actor: Actor, key: string, act: () => T): Promise<T> {
    await this.#scheduler.step(actor);
    const fails = this.#scheduler.chance(this.faultShare);
    if (fails && this.#scheduler.chance(0.5)) throw unavailable(key);
    const result = act();
    await this.#scheduler.step(actor);
    if (fails) throw unavailable(key);
    return result;
  }

  #nameOf(key: string): string {
    return this.#sabotage.sharesRejects === true ? key.replace(/\.[0-9a-f]{8}\.jsonl$/, ".jsonl") : key;
  }

  #create(key: string, body: Uint8Array): CreateOutcome {
    const isThere = this.objects.has(key);
    if (isThere && this.#sabotage.overwrites !== true) return "exists";
    if (isThere && Buffer.compare(this.objects.get(key)!, body) !== 0) this.violation = `${key} was changed`;
    if (this.#sabotage.forgets !== true || !this.#scheduler.chance(0.1)) this.#set(key, body);
    if (this.#sabotage.losesAPlan === true && key.endsWith("/plan/closed.json"))
      this.objects.delete(key.replace("closed", windowId(1)));
    this.#onCreate(key);
    return "created";
  }

  #replace(key: string, body: Uint8Array, ifVersion: string | null | undefined): ReplaceOutcome {
    if (ifVersion !== undefined && (this.#readVersion(key)?.version ?? null) !== ifVersion) return "changed";
    this.#set(key, body);
    return "replaced";
  }

  #readVersion(key: string): VersionedBody | null {
    const body = this.objects.get(key);
    return body === undefined ? null : { body, version: Buffer.from(body).toString("base64") };
  }

  #set(key: string, body: Uint8Array): void {
    this.objects.set(key, new Uint8Array(body));
    this.#writes.set(key, ++this.#writeCount);
  }

  /** Its clock counts the writes: the same in every replay of a seed. */
  #info(key: string, body: Uint8Array): ObjectInfo {
    return { key, bytes: body.length, modifiedAtMs: this.#writes.get(key) ?? 0 };
  }

  #read(key: string, range?: Readonly<{ start: number; end: number }>): Uint8Array {
    const body = this.objects.get(key);
    if (body === undefined) throw new FleetError("object_missing", `there is no object ${key}`);
    return range === undefined ? body : body.slice(range.start, range.end);
  }

  /** What a seal would believe that knows its windows by listing them: those that follow a lost one are not seen. */
  #closedAsListed(key: string): Uint8Array {
    const { plansSha256: _, ...closed } = JSON.parse(Buffer.from(this.objects.get(key)!).toString()) as ClosedRecord;
    const sums = { windows: 0, documents: 0, rows: 0, tokens: 0, shards: 0, rejects: 0 };
    for (let index = 0; ; index++) {
      const body = this.objects.get(key.replace("closed", windowId(index)));
      if (body === undefined) return Buffer.from(JSON.stringify({ ...closed, ...sums }));
      const plan = JSON.parse(Buffer.from(body).toString()) as WindowPlan;
      sums.windows++;
      sums.documents += plan.documents;
      sums.rows += plan.rows;
      sums.tokens += plan.tokens;
      sums.shards += plan.shards.length;
      sums.rejects += plan.rejects;
    }
  }

  #list(prefix: string): ObjectInfo[] {
    const found = [...this.objects].filter(([key]) => key.startsWith(prefix));
    return found.map(([key, body]) => this.#info(key, body)).sort((a, b) => (a.key < b.key ? -1 : 1));
  }
}

function unavailable(key: string): FleetError {
  return new FleetError("store_unavailable", `simulated fault at ${key}`);
}
