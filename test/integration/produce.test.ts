/** A producer that may die anywhere and be run again. */
import { expect, test } from "vitest";
import { findModel } from "../../models/registry.ts";
import { loadTokenizer } from "../../models/tokenizer.ts";
import { produce } from "../../producers/produce.ts";
import { decodeStagedShard } from "../../src/arrow/staged.ts";
import type { RunRecord, WindowPlan } from "../../src/core/contracts.ts";
import type { SourceItem } from "../../src/core/documents.ts";
import { FleetError } from "../../src/core/errors.ts";
import type { ObjectStore } from "../../src/core/ports.ts";
import { MemoryQueue } from "../fixtures/memory-queue.ts";
import { ScriptedStore } from "../fixtures/scripted-store.ts";

const model = findModel("mini");
const tokenizer = await loadTokenizer(model.tokenizerPath);
const record: RunRecord = {
  version: 1,
  run: "r",
  createdAt: "2026-01-01T00:00:00.000Z",
  inputs: ["corpus"],
  options: {
    model: model.ref,
    heads: ["dense"],
    precision: "fp32",
    maxTokens: 64,
    overlap: 8,
    idField: "id",
    textField: "text",
    format: "auto",
    keepText: true,
    maxDocumentBytes: 1000,
  },
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

test("killed at any call to the store and run again, it ends as if nothing had happened", async () => {
  const calm: Objects = new Map();
  const calmStore = new ScriptedStore({ objects: calm });
  await run(calmStore);
  const calls = calmStore.calls.length;
  expect(calls).toBeGreaterThan(4);
  for (let fatal = 0; fatal < calls; fatal++) {
    const objects: Objects = new Map();
    await expect(run(dyingAt(new ScriptedStore({ objects }), fatal))).rejects.toThrow("killed");
    const queue = new MemoryQueue();
    await run(new ScriptedStore({ objects }), corpus, queue);
    expect(sorted(objects)).toEqual(sorted(calm));
    expect(queue.jobs.size).toBeGreaterThan(0);
  }
});

/** The store of a producer that dies at its n-th call. */
function dyingAt(store: ScriptedStore, fatal: number): ObjectStore {
  let calls = 0;
  return new Proxy<ObjectStore>(store, {
    get(target, name) {
      const member: unknown = Reflect.get(target, name, target);
      if (typeof member !== "function") return member;
      return (...args: unknown[]) => {
        if (calls++ >= fatal) throw new FleetError("store_unavailable", "killed");
        return Reflect.apply(member, target, args);
      };
    },
  });
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
  ["one more document", [...corpus, document(999)]],
];
test.each(changes)("%s under the same run id is refused", async (_, changed) => {
  const objects: Objects = new Map();
  await run(new ScriptedStore({ objects }));
  await expect(run(new ScriptedStore({ objects }), changed)).rejects.toMatchObject({ code: "run_conflict" });
});

test("too many rejects stop it, and a higher limit goes on", async () => {
  const objects: Objects = new Map();
  await expect(run(new ScriptedStore({ objects }), corpus, new MemoryQueue(), 1)).rejects.toMatchObject({
    code: "too_many_rejects",
  });
  expect(await run(new ScriptedStore({ objects }), corpus, new MemoryQueue(), 2)).toMatchObject({ rejects: 2 });
});
