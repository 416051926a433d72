/** A producer that may die anywhere and be run again. */
import { createHash } from "node:crypto";
import { expect, test } from "vitest";
import { loadTokenizer } from "../../models/tokenizer/native.ts";
import { produce } from "../../producers/plan-corpus.ts";
import { FileStore } from "../../src/adapters/file/file-store.ts";
import { decodeStagedShard } from "../../src/arrow/staged.ts";
import { type ClosedRecord, rejectSchema, type RunRecord, type WindowPlan } from "../../src/core/contracts.ts";
import type { SourceItem } from "../../src/core/documents.ts";
import { FleetError } from "../../src/core/errors.ts";
import { jobOf } from "../../src/core/planning.ts";
import type { ObjectStore, Tokenizer } from "../../src/core/ports.ts";
import { RowDigest, textHashOf } from "../../src/core/rows.ts";
import { openMini } from "../fixtures/mini.ts";
import { MemoryQueue } from "../fixtures/memory-queue.ts";
import { runOptions } from "../fixtures/run-options.ts";
import { ScriptedStore } from "../fixtures/scripted-store.ts";
import { tempFolder } from "../fixtures/temp-folder.ts";

const model = await openMini();
const tokenizer = await loadTokenizer(model.tokenizerPath);
const record: RunRecord = {
  version: 1,
  run: "r",
  createdAt: "2026-01-01T00:00:00.000Z",
  inputs: ["corpus"],
  options: runOptions({ model: model.ref, overlap: 8, keepText: true }),
};

function document(index: number, text = `lighthouse number ${index} 灯塔 `.repeat(1 + (index % 40))): SourceItem {
  return { kind: "document", document: { id: `d${index}`, text, origin: { file: "corpus", line: index + 1 } } };
}

const reject: SourceItem = {
  kind: "reject",
  reject: { id: null, reason: "not_json", detail: "x", file: "corpus", line: 7 },
};
const corpus = [...Array.from({ length: 50 }, (_, i) => document(i)), reject, document(3)];

async function* from(items: readonly SourceItem[]): AsyncGenerator<SourceItem> {
  yield* items;
}

function run(store: ObjectStore, items = corpus, queue = new MemoryQueue(), maxRejects: number | null = null) {
  return produce({ store, queue, tokenizer, record, items: from(items), maxRejects });
}

type Objects = Map<string, Uint8Array>;

function sorted(objects: Objects): [string, string][] {
  return [...objects]
    .map(([key, body]): [string, string] => [key, Buffer.from(body).toString("base64")])
    .toSorted(([a], [b]) => (a < b ? -1 : 1));
}

test("plan, staged rows and totals agree, and duplicates are rejected at their line", async () => {
  const objects: Objects = new Map();
  const queue = new MemoryQueue();
  const closed = await run(new ScriptedStore({ objects }), corpus, queue);
  expect(closed).toMatchObject({ windows: 1, documents: 52, rejects: 2, shards: queue.jobs.size });
  const plan: WindowPlan = JSON.parse(Buffer.from(objects.get("runs/r/plan/w000000.json")!).toString());
  const staged = objects.get("runs/r/plan/w000000.arrows")!;
  const texts = new Map<string, string>();
  for (const { shard, rows, tokens, start, end } of plan.shards) {
    const decoded = decodeStagedShard({ run: "r", shard, rows, tokens, bytes: staged.subarray(start, end) });
    decoded.ids.forEach((id, i) => texts.set(`${id}#${decoded.chunks[i]}`, decoded.texts![i]!));
  }
  expect(texts.size).toBe(closed.rows);
  expect(texts.get("d0#0")).toBe("lighthouse number 0 灯塔 ");
  const rejects = Buffer.from(objects.get("runs/r/rejects/w000000.jsonl")!).toString();
  expect(rejects).toContain('"reason":"duplicate_id"');
  expect(rejects).toContain('"line":4');
});

test("every figure of the plan is that of the staged rows", async () => {
  const objects: Objects = new Map();
  const queue = new MemoryQueue();
  const closed = await run(new ScriptedStore({ objects }), corpus, queue);
  const plan: WindowPlan = JSON.parse(Buffer.from(objects.get("runs/r/plan/w000000.json")!).toString());
  const staged = objects.get("runs/r/plan/w000000.arrows")!;
  const sums = { rows: 0, tokens: 0, end: 0 };
  for (const planned of plan.shards) {
    const { shard, rows, tokens, start, end } = planned;
    expect(start).toBe(sums.end);
    const decoded = decodeStagedShard({ run: "r", shard, rows, tokens, bytes: staged.subarray(start, end) });
    const digest = new RowDigest();
    decoded.ids.forEach((id, i) => {
      digest.add(id, decoded.chunks[i]!, textHashOf(decoded, i));
      expect(Buffer.from(textHashOf(decoded, i)).equals(sha256(decoded.texts![i]!))).toBe(true);
      expect(decoded.texts![i]).toBe(textOf(id).slice(decoded.charStarts[i], decoded.charEnds[i]));
      expect(lengthOf(decoded, i)).toBeLessThanOrEqual(Math.min(64, lengthOf(decoded, Math.max(0, i - 1))));
    });
    expect(planned).toMatchObject({ rowsSha256: digest.hex(), longest: lengthOf(decoded, 0) });
    expect(queue.jobs.get(`r-${shard}`)).toEqual(jobOf("r", planned));
    sums.rows += rows;
    sums.tokens += tokens;
    sums.end = end;
  }
  expect(plan).toMatchObject({ rows: sums.rows, tokens: sums.tokens, stagedBytes: staged.length });
  expect(sums.end).toBe(staged.length);
  expect(closed).toMatchObject({ rows: sums.rows, tokens: sums.tokens, shards: plan.shards.length });
  // Some documents are longer than a row, so that chunks are among what was compared.
  expect(closed.rows).toBeGreaterThan(closed.documents);
});

function textOf(id: string): string {
  const item = corpus.find((each) => each.kind === "document" && each.document.id === id);
  if (item?.kind !== "document") throw new Error(`${id} is not in the corpus`);
  return item.document.text;
}

function sha256(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}

function lengthOf(rows: ReturnType<typeof decodeStagedShard>, row: number): number {
  return rows.offsets[row + 1]! - rows.offsets[row]!;
}

test("rejects are written in order of the corpus, each at its line", async () => {
  const objects: Objects = new Map();
  await run(new ScriptedStore({ objects }));
  const lines = Buffer.from(objects.get("runs/r/rejects/w000000.jsonl")!).toString().trimEnd().split("\n");
  expect(lines.map((line) => rejectSchema.parse(JSON.parse(line)))).toMatchObject([
    { id: null, reason: "not_json", file: "corpus", line: 7 },
    {
      id: "d3",
      reason: "duplicate_id",
      file: "corpus",
      line: 4,
      detail: expect.stringMatching(/came before it, at corpus:\d+;/),
    },
  ]);
});

test("a folder gets the bytes that any other store gets, also from two producers at once and a second run", async () => {
  const calm: Objects = new Map();
  await run(new ScriptedStore({ objects: calm }));
  const folder = await tempFolder();
  await Promise.all([run(new FileStore(folder)), run(new FileStore(folder))]);
  expect(await readAll(new FileStore(folder))).toEqual(sorted(calm));
  await run(new FileStore(folder));
  expect(await readAll(new FileStore(folder))).toEqual(sorted(calm));
});

test("killed at any call to a folder and run again, it ends as if nothing had happened", async () => {
  const counted = dyingAt(new FileStore(await tempFolder()), Infinity);
  await run(counted.store);
  expect(counted.calls()).toBeGreaterThan(4);
  const calm: Objects = new Map();
  await run(new ScriptedStore({ objects: calm }));
  for (let fatal = 0; fatal < counted.calls(); fatal++) {
    const store = new FileStore(await tempFolder());
    await expect(run(dyingAt(store, fatal).store)).rejects.toThrow("killed");
    await run(store);
    expect(await readAll(store)).toEqual(sorted(calm));
  }
});

test("told that a write failed which had arrived, it ends as if nothing had happened", async () => {
  const calm: Objects = new Map();
  await run(new ScriptedStore({ objects: calm }));
  for (const key of calm.keys()) {
    const objects: Objects = new Map();
    const keyMatches = new RegExp(`^${key}$`);
    const store = new ScriptedStore({ objects }).script({ op: "create", keyMatches, outcome: "fail-after-commit" });
    await expect(run(store)).rejects.toMatchObject({ code: "store_unavailable" });
    expect(objects.has(key)).toBe(true);
    await run(store);
    expect(sorted(objects)).toEqual(sorted(calm));
  }
});

test("a queue that fails leaves a plan from which the next run queues every shard", async () => {
  const objects: Objects = new Map();
  const queue = new MemoryQueue();
  queue.beforeEnqueue = () => Promise.reject(new FleetError("redis_unavailable", "away"));
  await expect(run(new ScriptedStore({ objects }), corpus, queue)).rejects.toMatchObject({ code: "redis_unavailable" });
  expect(objects.has("runs/r/plan/closed.json")).toBe(false);
  queue.beforeEnqueue = () => {};
  const closed = await run(new ScriptedStore({ objects }), corpus, queue);
  expect(queue.jobs.size).toBe(closed.shards);
});

test("shards whose results are there are not queued again", async () => {
  const objects: Objects = new Map();
  const first = new MemoryQueue();
  await run(new ScriptedStore({ objects }), corpus, first);
  const [done, ...rest] = [...first.jobs.values()];
  objects.set(`runs/r/data/${done!.shard}.arrow`, Buffer.from("results"));
  const second = new MemoryQueue();
  await run(new ScriptedStore({ objects }), corpus, second);
  expect([...second.jobs.values()]).toEqual(rest);
});

/** One token a character: a window's million tokens cost the real one seconds. */
const perCharacter: Tokenizer = {
  vocabSize: 65_536,
  prefixIds: [0],
  suffixIds: [2],
  encode: async ({ texts }) =>
    texts.map((text) => ({
      ids: Int32Array.from({ length: text.length }, (_, i) => text.charCodeAt(i)),
      starts: Uint32Array.from({ length: text.length }, (_, i) => i),
    })),
};

test("a corpus of several windows, killed between them, ends as if nothing had happened", async () => {
  const long = Array.from({ length: 130 }, (_, i) => document(i, `lighthouse ${i} `.repeat(700)));
  const items = [...long.slice(0, 125), reject, ...long.slice(125)];
  const runLong = (store: ObjectStore): Promise<ClosedRecord> =>
    produce({ store, queue: new MemoryQueue(), tokenizer: perCharacter, record, items: from(items), maxRejects: null });
  const calm: Objects = new Map();
  const closed = await runLong(new ScriptedStore({ objects: calm }));
  expect(closed).toMatchObject({ windows: 2, documents: items.length, rejects: 1 });
  const [first, second] = ["w000000", "w000001"].map((window): WindowPlan =>
    JSON.parse(Buffer.from(calm.get(`runs/r/plan/${window}.json`)!).toString()),
  );
  expect(second!.firstDocument).toBe(first!.documents);
  for (const key of ["runs/r/plan/w000001.arrows", "runs/r/plan/w000001.json", "runs/r/plan/closed.json"]) {
    const objects: Objects = new Map();
    const keyMatches = new RegExp(`^${key}$`);
    const store = new ScriptedStore({ objects }).script({ op: "create", keyMatches, outcome: "fail-before" });
    await expect(runLong(store)).rejects.toMatchObject({ code: "store_unavailable" });
    expect(await runLong(store)).toEqual(closed);
    expect(sorted(objects)).toEqual(sorted(calm));
  }
});

test("while a window is written the next one is read", async () => {
  let reached = (): void => {};
  const until = new Promise<void>((resolve) => (reached = resolve));
  const store = new ScriptedStore().script({ op: "create", keyMatches: /w000000\.arrows$/, outcome: { until } });
  async function* items(): AsyncGenerator<SourceItem> {
    // The first window ends before the 126th, and documents are read ahead in batches of 512.
    for (let i = 0; i < 1200; i++) yield document(i, `lighthouse ${i} `.repeat(i < 130 ? 700 : 1));
    reached();
    yield document(1200);
  }
  const queue = new MemoryQueue();
  const closed = await produce({ store, queue, tokenizer: perCharacter, record, items: items(), maxRejects: null });
  expect(closed).toMatchObject({ windows: 2, documents: 1201 });
});

test("an empty corpus is a run without windows", async () => {
  const objects: Objects = new Map();
  expect(await run(new ScriptedStore({ objects }), [])).toMatchObject({ windows: 0, documents: 0, shards: 0 });
  expect([...objects.keys()]).toEqual(["runs/r/plan/closed.json"]);
});

async function readAll(store: ObjectStore): Promise<[string, string][]> {
  const objects: Objects = new Map();
  for await (const { key } of store.list({ prefix: "" })) objects.set(key, await store.read({ key }));
  return sorted(objects);
}

test("killed at any call to the store and run again, it ends as if nothing had happened", async () => {
  const calm: Objects = new Map();
  const calmStore = new ScriptedStore({ objects: calm });
  await run(calmStore);
  const calls = calmStore.calls.length;
  expect(calls).toBeGreaterThan(4);
  for (let fatal = 0; fatal < calls; fatal++) {
    const objects: Objects = new Map();
    await expect(run(dyingAt(new ScriptedStore({ objects }), fatal).store)).rejects.toThrow("killed");
    const queue = new MemoryQueue();
    await run(new ScriptedStore({ objects }), corpus, queue);
    expect(sorted(objects)).toEqual(sorted(calm));
    expect(queue.jobs.size).toBeGreaterThan(0);
  }
});

/** The store of a producer that dies at its n-th call. */
function dyingAt(store: ObjectStore, fatal: number): { store: ObjectStore; calls: () => number } {
  let calls = 0;
  const dying = new Proxy(store, {
    get(target, name) {
      const member: unknown = Reflect.get(target, name, target);
      if (typeof member !== "function") return member;
      return (...args: unknown[]) => {
        if (calls++ >= fatal) throw new FleetError("store_unavailable", "killed");
        return Reflect.apply(member, target, args);
      };
    },
  });
  return { store: dying, calls: () => calls };
}

test("two producers at once write one plan", async () => {
  const objects: Objects = new Map();
  const calm: Objects = new Map();
  await run(new ScriptedStore({ objects: calm }));
  await Promise.all([run(new ScriptedStore({ objects })), run(new ScriptedStore({ objects }))]);
  expect(sorted(objects)).toEqual(sorted(calm));
});

const changes: [string, SourceItem[]][] = [
  ["a changed text", [document(0, "another text"), ...corpus.slice(1)]],
  ["a missing document", corpus.slice(0, -1)],
  ["a missing document in the middle", corpus.toSpliced(10, 1)],
  ["two documents that changed places", [corpus[1]!, corpus[0]!, ...corpus.slice(2)]],
  ["a reject where a document was", [reject, ...corpus.slice(1)]],
  ["one more document", [...corpus, document(999)]],
];
test.each(changes)("%s under the same run id is refused", async (_, changed) => {
  const objects: Objects = new Map();
  await run(new ScriptedStore({ objects }));
  const before = sorted(objects);
  await expect(run(new ScriptedStore({ objects }), changed)).rejects.toMatchObject({ code: "run_conflict" });
  expect(sorted(objects)).toEqual(before);
});

test("too many rejects stop it, and a higher limit goes on", async () => {
  const objects: Objects = new Map();
  await expect(run(new ScriptedStore({ objects }), corpus, new MemoryQueue(), 1)).rejects.toMatchObject({
    code: "too_many_rejects",
  });
  expect(await run(new ScriptedStore({ objects }), corpus, new MemoryQueue(), 2)).toMatchObject({ rejects: 2 });
});
