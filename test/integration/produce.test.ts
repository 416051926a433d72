/** The producer against a store and a queue in memory, with failures at every step. */
import { hash } from "node:crypto";
import { describe, expect, test } from "vitest";
import { produce, type ProduceParams } from "../../producers/produce.ts";
import { decodeStagedShard } from "../../src/arrow/staged.ts";
import { closedRecordSchema, CONTRACT_VERSION, rejectSchema, type RunRecord, windowPlanSchema, type WindowPlan } from "../../src/core/contracts.ts";
import { rejectAt, type SourceItem } from "../../src/core/documents.ts";
import { FleetError } from "../../src/core/errors.ts";
import { runKeys } from "../../src/core/layout.ts";
import { jobOf } from "../../src/core/planning.ts";
import type { JobQueue, ObjectStore, Tokenizer } from "../../src/core/ports.ts";
import { RowDigest, textHashOf } from "../../src/core/rows.ts";
import { MemoryQueue } from "../fixtures/memory-queue.ts";
import { ScriptedStore } from "../fixtures/scripted-store.ts";

const RUN = "run-1";
const KEYS = runKeys(RUN);

const RECORD: RunRecord = {
  version: CONTRACT_VERSION,
  run: RUN,
  createdAt: "2026-01-01T00:00:00.000Z",
  inputs: ["corpus.jsonl"],
  options: {
    model: { id: "mini", revision: "1", sha256: "0".repeat(64), dim: 8, maxTokens: 8192 },
    heads: ["dense"],
    precision: "fp32",
    maxTokens: 8192,
    overlap: 0,
    idField: "id",
    textField: "text",
    format: "auto",
    keepText: false,
    maxDocumentBytes: 1024 * 1024,
  },
};

const TOKENS_PER_CHAR = 64;

/** Many tokens from few characters, so that small corpora fill several windows. */
const tokenizer: Tokenizer = {
  vocabSize: 70_000,
  prefixIds: [0],
  suffixIds: [2],
  async encode({ texts, withStarts }) {
    return texts.map((text) => {
      const tokens = text.length * TOKENS_PER_CHAR;
      const starts = Uint32Array.from({ length: withStarts ? tokens : 0 }, (_, i) => Math.floor(i / TOKENS_PER_CHAR));
      return { ids: Int32Array.from({ length: tokens }, (_, i) => text.charCodeAt(Math.floor(i / TOKENS_PER_CHAR))), starts };
    });
  },
};

function documentOf(i: number, text = "abcdefg".repeat(100 + ((i * 37) % 300))): SourceItem {
  return { kind: "document", document: { id: `d${i}`, text: `${i} ${text}`, origin: { file: "corpus.jsonl", line: i + 1 } } };
}

/** Three windows, with rejects and a duplicate id in the first and the last. */
function corpus(): SourceItem[] {
  const items = Array.from({ length: 42 }, (_, i) => documentOf(i));
  items[3] = { kind: "reject", reject: rejectAt({ file: "corpus.jsonl", line: 4 }, "not_json", "Unexpected end of JSON input") };
  items[40] = documentOf(7);
  return items;
}

async function* stream(items: Iterable<SourceItem>): AsyncGenerator<SourceItem> {
  yield* items;
}

interface Fleet {
  readonly objects: Map<string, Uint8Array>;
  readonly store: ScriptedStore;
  readonly queue: MemoryQueue;
}

function newFleet(objects = new Map<string, Uint8Array>()): Fleet {
  return { objects, store: new ScriptedStore({ objects }), queue: new MemoryQueue() };
}

function start(fleet: Readonly<{ store: ObjectStore; queue: JobQueue }>, items: readonly SourceItem[], more: Partial<ProduceParams> = {}): ReturnType<typeof produce> {
  return produce({ store: fleet.store, queue: fleet.queue, tokenizer, record: RECORD, items: stream(items), maxRejects: null, ...more });
}

async function produced(items = corpus()): Promise<Fleet> {
  const fleet = newFleet();
  await start(fleet, items);
  return fleet;
}

function plansIn(objects: ReadonlyMap<string, Uint8Array>): WindowPlan[] {
  const keys = [...objects.keys()].filter((key) => /\/plan\/w\d{6}\.json$/.test(key)).sort();
  return keys.map((key) => windowPlanSchema.parse(JSON.parse(Buffer.from(objects.get(key)!).toString())));
}

function shardsIn(objects: ReadonlyMap<string, Uint8Array>): string[] {
  return plansIn(objects).flatMap((plan) => plan.shards.map(({ shard }) => shard));
}

/** Byte for byte, told apart by key. */
function expectSameObjects(found: ReadonlyMap<string, Uint8Array>, expected: ReadonlyMap<string, Uint8Array>): void {
  expect([...found.keys()].sort()).toEqual([...expected.keys()].sort());
  for (const [key, bytes] of expected) expect(Buffer.compare(found.get(key)!, bytes), key).toBe(0);
}

describe("an undisturbed producer", () => {
  test("plans every document once, with all that a worker and a check need", async () => {
    const { objects, queue } = await produced();
    const plans = plansIn(objects);
    expect(plans.map(({ window, firstDocument }) => [window, firstDocument])).toEqual(
      plans.map((_, i) => [`w00000${i}`, plans.slice(0, i).reduce((sum, plan) => sum + plan.documents, 0)]),
    );
    expect(plans.length).toBe(3);
    const texts = new Map(corpus().flatMap((item) => (item.kind === "document" ? [[item.document.id, item.document.text]] : [])));
    const covered = new Map<string, number>();
    for (const plan of plans) {
      const staged = objects.get(KEYS.staged(plan.window))!;
      expect(staged.length).toBe(plan.stagedBytes);
      for (const shard of plan.shards) {
        const rows = decodeStagedShard({ run: RUN, ...shard, bytes: staged.subarray(shard.start, shard.end) });
        const digest = new RowDigest();
        rows.ids.forEach((id, row) => {
          const text = texts.get(id)!.slice(rows.charStarts[row], rows.charEnds[row]);
          expect(Buffer.compare(textHashOf(rows, row), hash("sha256", text, "buffer"))).toBe(0);
          covered.set(id, (covered.get(id) ?? 0) + text.length);
          digest.add(id, rows.chunks[row]!, textHashOf(rows, row));
        });
        expect(digest.hex()).toBe(shard.rowsSha256);
        expect(shard.longest).toBe(rows.offsets[1]);
      }
      expect(plan.shards.map(({ longest }) => longest)).toEqual(plan.shards.map(({ longest }) => longest).sort((a, b) => b - a));
    }
    expect(covered).toEqual(new Map([...texts].map(([id, text]) => [id, text.length])));
    expect([...queue.jobs.values()]).toEqual(plans.flatMap((plan) => plan.shards.map((shard) => jobOf(RUN, shard))));
  });

  test("closes the plan with totals and writes what it refused, with reason and place", async () => {
    const { objects } = await produced();
    const plans = plansIn(objects);
    const total = (field: "rows" | "tokens" | "documents"): number => plans.reduce((sum, plan) => sum + plan[field], 0);
    const closed = closedRecordSchema.parse(JSON.parse(Buffer.from(objects.get(KEYS.closed)!).toString()));
    expect(closed).toMatchObject({ windows: 3, documents: 42, rejects: 2, rows: total("rows"), tokens: total("tokens"), shards: shardsIn(objects).length });
    expect(total("documents")).toBe(42);
    const lines = [...objects].filter(([key]) => key.startsWith(KEYS.rejectsPrefix)).flatMap(([, bytes]) => Buffer.from(bytes).toString().trim().split("\n"));
    expect(lines.map((line) => rejectSchema.parse(JSON.parse(line)))).toMatchObject([
      { id: null, reason: "not_json", file: "corpus.jsonl", line: 4 },
      { id: "d7", reason: "duplicate_id", file: "corpus.jsonl", line: 8 },
    ]);
  });

  test("an empty corpus is a closed plan of nothing", async () => {
    const { objects, queue } = await produced([]);
    expect([...objects.keys()]).toEqual([KEYS.closed]);
    expect(queue.jobs.size).toBe(0);
  });

  test("a corpus of rejects only has a window without shards", async () => {
    const { objects } = await produced(corpus().slice(3, 4));
    expect(plansIn(objects)).toMatchObject([{ documents: 1, rejects: 1, rows: 0, shards: [] }]);
  });

  test("keeps texts only when asked to", async () => {
    const fleet = newFleet();
    await start(fleet, [documentOf(0)], { record: { ...RECORD, options: { ...RECORD.options, keepText: true } } });
    const [plan] = plansIn(fleet.objects);
    const staged = fleet.objects.get(KEYS.staged(plan!.window))!;
    const rows = plan!.shards.flatMap((shard) => decodeStagedShard({ run: RUN, ...shard, bytes: staged.subarray(shard.start, shard.end) }).texts!);
    expect([...rows.join("")].sort()).toEqual([...`0 ${"abcdefg".repeat(100)}`].sort());
  });
});

describe("a producer that dies at any step and is run again", () => {
  /** Fails the `failAt`-th call to the store or the queue, counted together, before or after it took effect. */
  function failing(fleet: Fleet, failAt: number, when: "before" | "after"): { store: ObjectStore; queue: JobQueue; calls: () => number } {
    const { store, queue } = fleet;
    let calls = 0;
    const step = async <T>(act: () => Promise<T>): Promise<T> => {
      const fails = ++calls === failAt;
      if (fails && when === "before") throw new FleetError("store_unavailable", "killed");
      const result = await act();
      if (fails) throw new FleetError("store_unavailable", "killed");
      return result;
    };
    async function* list(prefix: string): ReturnType<ObjectStore["list"]> & AsyncGenerator {
      const found: { key: string; bytes: number }[] = [];
      await step(async () => {
        for await (const object of store.list({ prefix })) found.push(object);
      });
      yield* found;
    }
    return {
      store: {
        url: store.url,
        create: (params) => step(() => store.create(params)),
        replace: (params) => step(() => store.replace(params)),
        read: (params) => step(() => store.read(params)),
        stat: (params) => step(() => store.stat(params)),
        remove: (params) => step(() => store.remove(params)),
        list: ({ prefix }) => list(prefix),
        close: () => store.close(),
      },
      queue: {
        enqueue: (params) => step(() => queue.enqueue(params)),
        requeue: (params) => step(() => queue.requeue(params)),
        counts: () => queue.counts(),
        close: () => queue.close(),
      },
      calls: () => calls,
    };
  }

  test.each(["before", "after"] as const)("converges to the same bytes and jobs (%s the call took effect)", async (when) => {
    const expected = await produced();
    const counting = failing(newFleet(), Infinity, when);
    await start(counting, corpus());
    expect(counting.calls()).toBeGreaterThan(12);
    for (let failAt = 1; failAt <= counting.calls(); failAt++) {
      const fleet = newFleet();
      await expect(start(failing(fleet, failAt, when), corpus()), `call ${failAt}`).rejects.toMatchObject({ message: "killed" });
      await start(fleet, corpus());
      expectSameObjects(fleet.objects, expected.objects);
      expect(new Map([...fleet.queue.jobs].sort())).toEqual(new Map([...expected.queue.jobs].sort()));
    }
  });

  test("dies again while it goes on, and converges all the same", async () => {
    const expected = await produced();
    const fleet = newFleet();
    let deaths = 0;
    // Each attempt gets one call further than the last.
    for (let failAt = 1; ; failAt++) {
      try {
        await start(failing(fleet, failAt, "after"), corpus());
        break;
      } catch {
        deaths++;
      }
    }
    expect(deaths).toBeGreaterThan(10);
    expectSameObjects(fleet.objects, expected.objects);
  });

  test("does not tokenise again what is planned", async () => {
    const fleet = await produced();
    fleet.objects.delete(KEYS.closed);
    const refusing: Tokenizer = { ...tokenizer, encode: () => Promise.reject(new Error("nothing is left to tokenise")) };
    await expect(start(fleet, corpus(), { tokenizer: refusing })).resolves.toMatchObject({ documents: 42 });
  });

  test("queues again only the shards whose result is missing", async () => {
    const fleet = await produced();
    const [first, , third] = shardsIn(fleet.objects);
    for (const shard of [first!, third!]) fleet.objects.set(KEYS.data(shard), Buffer.from("done"));
    const wiped = { ...fleet, queue: new MemoryQueue() };
    await start(wiped, corpus());
    expect([...wiped.queue.jobs.values()].map(({ shard }) => shard)).toEqual(shardsIn(fleet.objects).filter((shard) => shard !== first && shard !== third));
  });
});

describe("a run id with another corpus", () => {
  function changed(change: (items: SourceItem[]) => void): SourceItem[] {
    const items = corpus();
    change(items);
    return items;
  }

  test.each<[string, (items: SourceItem[]) => void, RegExp]>([
    ["another text", (items) => void (items[20] = documentOf(20, "other")), /documents \d+ to \d+ .* w00000[12]/],
    ["another id", (items) => void (items[0] = documentOf(1000, "abcdefg".repeat(100))), /documents 1 to \d+ .* w000000/],
    ["another order", (items) => void items.splice(0, 2, items[1]!, items[0]!), /w000000/],
    ["a reject where a document was", (items) => void (items[5] = corpus()[3]!), /w000000/],
    ["fewer documents", (items) => void items.splice(30), /ends after 30 documents; window w00000[12]/],
    ["more documents", (items) => void items.push(documentOf(500)), /goes on after the 42 documents/],
    ["no documents", (items) => void items.splice(0), /ends after 0 documents; window w000000/],
  ])("%s: refused, and nothing is changed", async (_, change, message) => {
    const fleet = await produced();
    const before = new Map(fleet.objects);
    await expect(start(fleet, changed(change))).rejects.toMatchObject({
      code: "run_conflict",
      message: expect.stringMatching(message),
      cure: expect.stringContaining("--run"),
    });
    expectSameObjects(fleet.objects, before);
  });

  test.each([
    ["of the same size", (items: SourceItem[]) => void (items[0] = documentOf(0, "gfedcba".repeat(100)))],
    ["of another size", (items: SourceItem[]) => void items.splice(5)],
  ])("is found out by staged rows %s that have no plan yet", async (_, change) => {
    const fleet = newFleet();
    fleet.store.script({ op: "create", keyMatches: /w000000\.json$/, outcome: "fail-before" });
    await expect(start(fleet, corpus())).rejects.toMatchObject({ code: "store_unavailable" });
    await expect(start(fleet, changed(change))).rejects.toMatchObject({ code: "run_conflict", message: expect.stringContaining("w000000.arrows") });
  });
});

describe("two producers at once", () => {
  test.each([/w000000\.arrows$/, /w000000\.json$/, /w000001\.arrows$/, /w000001\.json$/, /closed\.json$/])(
    "converge when the first is held up at %s until the second has finished",
    async (keyMatches) => {
      const expected = await produced();
      const first = newFleet();
      const second = newFleet(first.objects);
      const finished = Promise.withResolvers ? Promise.withResolvers<void>() : latch();
      first.store.script({ op: "create", keyMatches, outcome: { until: finished.promise } });
      const slow = start(first, corpus());
      const quick = await start(second, corpus());
      finished.resolve();
      expect(await slow).toEqual(quick);
      expectSameObjects(first.objects, expected.objects);
    },
  );
});

function latch(): { promise: Promise<void>; resolve: () => void } {
  let resolve = (): void => {};
  const promise = new Promise<void>((open) => {
    resolve = open;
  });
  return { promise, resolve };
}

describe("limits", () => {
  test("too many rejects stop it, with the count, the limit and the first few", async () => {
    const items = Array.from({ length: 20 }, (_, i): SourceItem => ({
      kind: "reject",
      reject: rejectAt({ file: "bad.jsonl", line: i + 1 }, "no_text", "the field text is missing", `r${i}`),
    }));
    const error = await start(newFleet(), items, { maxRejects: 4 }).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: "too_many_rejects", cure: expect.stringContaining("--max-rejects") });
    expect((error as Error).message).toMatch(/5 documents.* 4;.*bad\.jsonl:1: no_text.*bad\.jsonl:3/);
    await expect(start(newFleet(), items, { maxRejects: 20 })).resolves.toMatchObject({ rejects: 20 });
  });

  test("a corpus without end is held one window and a few batches at a time, and can be stopped", async () => {
    const fleet = newFleet();
    const stop = new AbortController();
    let read = 0;
    let sourceClosed = false;
    async function* endless(): AsyncGenerator<SourceItem> {
      try {
        for (;;) yield documentOf(read++, "abcdefghij".repeat(8));
      } finally {
        sourceClosed = true;
      }
    }
    const ahead: number[] = [];
    const run = start(fleet, [], {
      items: endless(),
      signal: stop.signal,
      onProgress: ({ documents }) => {
        ahead.push(read - documents);
        if (ahead.length === 3) stop.abort();
      },
    });
    await expect(run).rejects.toThrow(expect.objectContaining({ name: "AbortError" }));
    expect(plansIn(fleet.objects).map(({ tokens }) => Math.round(tokens / 1024 / 1024))).toEqual([1, 2, 4]);
    expect(Math.max(...ahead)).toBeLessThanOrEqual(3 * 512);
    expect(sourceClosed).toBe(true);
  });

  test("a tokenizer that fails ends the run with its error", async () => {
    const broken: Tokenizer = { ...tokenizer, encode: () => Promise.reject(new Error("out of memory")) };
    await expect(start(newFleet(), corpus(), { tokenizer: broken })).rejects.toThrow("out of memory");
  });
});
