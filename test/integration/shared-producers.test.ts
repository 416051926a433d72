/** Parts made anywhere, in any order and more than once come to the plan that one producer makes. */
import { mkdir, rm, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { gzipSync } from "node:zlib";
import { expect, onTestFinished, test } from "vitest";
import { loadTokenizer } from "../../models/tokenizer/native.ts";
import { LocalChunker } from "../../producers/chunking/chunker.ts";
import { makePart, type PartTools } from "../../producers/parts/make-part.ts";
import { type OfferedPart, offerOf, partOf } from "../../producers/parts/part-job.ts";
import { decodePiece } from "../../producers/parts/part-piece.ts";
import { produce } from "../../producers/plan-corpus.ts";
import { SharedReader } from "../../producers/parts/shared-reader.ts";
import { Corpus } from "../../producers/corpus.ts";
import { type CutHow, placeOpener } from "../../producers/parts/parts.ts";
import type { CorpusPart, WholeObject } from "../../producers/parts/sections.ts";
import type { ClosedRecord, RunOptions, RunRecord } from "../../src/core/contracts.ts";
import type { PartJob } from "../../src/core/ingest.ts";
import { FleetError } from "../../src/core/errors.ts";
import { runKeys } from "../../src/core/layout.ts";
import { openRun } from "../../src/run/open-run.ts";
import { unobserved } from "../../src/core/telemetry.ts";
import { openMini } from "../fixtures/mini.ts";
import { makeCorpus } from "../fixtures/made-corpus.ts";
import { MemoryParts } from "../fixtures/memory-parts.ts";
import { MemoryQueue } from "../fixtures/memory-queue.ts";
import { runOptions } from "../fixtures/run-options.ts";
import { ScriptedStore } from "../fixtures/scripted-store.ts";
import { tempFolder } from "../fixtures/temp-folder.ts";

const model = await openMini();
const tokenizer = await loadTokenizer(model.tokenizerPath);
const never = new AbortController().signal;

async function writeCorpus(): Promise<string> {
  const folder = join(await tempFolder(), "corpus");
  await mkdir(folder);
  const large = makeCorpus({ documents: 200, seed: 5 }).split("\n");
  large.splice(120, 0, "no json", "", '{"id":"no text"}');
  await writeFile(join(folder, "large.jsonl"), large.join("\n"));
  await writeFile(join(folder, "twice.jsonl"), makeCorpus({ documents: 20, seed: 6, maxWords: 50 }));
  await writeFile(join(folder, "damaged.jsonl.gz"), gzipSync(large.join("\n")).subarray(0, -900));
  await writeFile(join(folder, "table.csv"), "id,text,lang\nc1,first row,en\nc2,first row,\n");
  await writeSmallOnes(join(folder, "notes"));
  return folder;
}

/** Of every kind: whole documents and rows, empty ones, and one that cannot be read. */
async function writeSmallOnes(folder: string): Promise<void> {
  await mkdir(folder);
  for (let file = 0; file < 30; file++)
    await writeFile(join(folder, `${file}.md`), `# Note ${file}\n\n${"Some words of it. ".repeat(file)}`);
  await writeFile(join(folder, "0-empty.md"), "");
  await writeFile(join(folder, "1-empty.jsonl"), "");
  await writeFile(join(folder, "10-damaged.txt.gz"), gzipSync("words").subarray(0, 12));
  await writeFile(join(folder, "11-page.html"), "<html><body><h1>Page</h1>Words.</body></html>");
  await writeFile(
    join(folder, "12-rows.jsonl"),
    makeCorpus({ documents: 5, seed: 7 }).replaceAll('"id":"d', '"id":"n'),
  );
  await writeFile(join(folder, "13-no-column.csv"), "key,words\n1,x\n");
}

function recordOf(folder: string, given: Partial<RunOptions>): RunRecord {
  const options = runOptions({ model: model.ref, overlap: 8, maxDocumentBytes: 1 << 20, ...given });
  const inputs = [folder, join(folder, "notes", "missing.md"), join(folder, "notes", "29.md")];
  return { version: 1, run: "r", createdAt: "2026-01-01T00:00:00.000Z", inputs, options };
}

function toolsOf(store: ScriptedStore, record: RunRecord): PartTools {
  const open = placeOpener(() => Promise.reject(new Error("no buckets here")));
  return {
    store,
    record,
    chunker: new LocalChunker({ tokenizer, options: record.options }),
    open,
    observe: unobserved,
  };
}

type Objects = Map<string, Uint8Array>;

async function planAlone(record: RunRecord): Promise<{ objects: Objects; closed: ClosedRecord }> {
  const objects: Objects = new Map();
  const items = new Corpus({ inputs: record.inputs, ...record.options }).items();
  const store = new ScriptedStore({ objects });
  const closed = await produce({ store, queue: new MemoryQueue(), record, maxRejects: null, tokenizer, items });
  return { objects, closed };
}

async function planShared(
  record: RunRecord,
  params: Readonly<{ objects: Objects; parts: MemoryParts; store?: ScriptedStore; cut?: CutHow }>,
): Promise<ClosedRecord> {
  const { objects, parts, store = new ScriptedStore({ objects }), cut } = params;
  const tools = toolsOf(store, record);
  await parts.work({ atOnce: 1, make: (job, signal) => makePart(job, tools, signal) });
  onTestFinished(() => parts.close());
  const reader = new SharedReader({ store, queue: parts, run: record.run, pollIntervalMs: 1 });
  const corpus = new Corpus({ inputs: record.inputs, ...record.options });
  const items = corpus.items(reader, { partBytes: 16 * 1024, partObjects: 8, pinsAll: true, ...cut });
  return produce({ store, queue: new MemoryQueue(), record, maxRejects: null, chunker: tools.chunker, items });
}

function planOf(objects: Objects): [string, string][] {
  return [...objects]
    .filter(([key]) => !key.startsWith("runs/r/parts/"))
    .map(([key, body]): [string, string] => [key, Buffer.from(body).toString("base64")])
    .toSorted(([a], [b]) => (a < b ? -1 : 1));
}

function recordText(objects: Objects, { part }: PartJob): string {
  return Buffer.from(objects.get(runKeys("r").partRecord(part))!).toString("utf8");
}

test.each<[name: string, options: Partial<RunOptions>]>([
  ["all of it", {}],
  ["--limit", { limit: 150 }],
  ["--sample and --dedupe", { sample: 0.4, dedupe: true }],
  [
    "chunks with their texts and a kept field",
    { chunking: "markdown", chunkTokens: 32, keepText: true, keep: ["lang"] },
  ],
])("the plan is the same to the byte: %s", async (_, options) => {
  const record = recordOf(await writeCorpus(), options);
  const alone = await planAlone(record);
  const parts = new MemoryParts();
  // As of a helper that is killed and a queue that is wiped: the part is there again when nobody has made it.
  parts.board.loses = 2;
  const objects: Objects = new Map();
  expect(await planShared(record, { objects, parts })).toEqual(alone.closed);
  expect(planOf(objects)).toEqual(planOf(alone.objects));
  expect(parts.added.length).toBeGreaterThan(8);
  const isBundle = (job: PartJob): boolean => recordText(objects, job).includes('"objects":');
  expect(parts.added.filter(isBundle).length).toBeGreaterThan(4);
  for (const job of parts.added) expect(JSON.stringify(job).length).toBeLessThan(256);
});

test("a lead that is killed takes up the parts that were made, and makes none of them again", async () => {
  const record = recordOf(await writeCorpus(), {});
  const alone = await planAlone(record);
  const objects: Objects = new Map();
  const store = new ScriptedStore({ objects }).script({ op: "create", keyMatches: /\/plan\//, outcome: "fail-before" });
  await expect(planShared(record, { objects, parts: new MemoryParts(), store })).rejects.toMatchObject({
    code: "store_unavailable",
  });
  const parts = new MemoryParts();
  expect(await planShared(record, { objects, parts })).toEqual(alone.closed);
  expect(parts.added).toEqual([]);
  expect(planOf(objects)).toEqual(planOf(alone.objects));
});

/** A lead that died when all parts were made; `spoil` is told the key of the second part's first piece. */
async function planSpoilt(spoil: (objects: Objects, key: string) => void): Promise<void> {
  const record = recordOf(await writeCorpus(), {});
  const alone = await planAlone(record);
  const objects: Objects = new Map();
  const store = new ScriptedStore({ objects }).script({ op: "create", keyMatches: /closed/, outcome: "fail-before" });
  await expect(planShared(record, { objects, parts: new MemoryParts(), store })).rejects.toThrow();
  const key = [...objects.keys()].filter((name) => /\/parts\/.*\/000000$/.test(name)).toSorted()[1]!;
  spoil(objects, key);
  const parts = new MemoryParts();
  expect(await planShared(record, { objects, parts })).toEqual(alone.closed);
  expect(parts.added.map(({ part }) => part)).toEqual([key.split("/")[3]]);
  expect(planOf(objects)).toEqual(planOf(alone.objects));
}

test("a piece that is damaged in the store is made again", () =>
  planSpoilt((objects, key) => objects.set(key, objects.get(key)!.subarray(0, 40))));

test("a piece that is gone, of a part that was made, is made again", () =>
  planSpoilt((objects, key) => objects.delete(key)));

test("a piece that is damaged again and again ends the run and says which", async () => {
  const record = recordOf(await writeCorpus(), {});
  const objects: Objects = new Map();
  const store = new ScriptedStore({ objects });
  const read = store.read.bind(store);
  store.read = async (params) => {
    const bytes = await read(params);
    return /\/parts\/p000001-\w+\/\d+$/.test(params.key) ? bytes.subarray(0, 40) : bytes;
  };
  const planning = planShared(record, { objects, parts: new MemoryParts(), store });
  await expect(planning).rejects.toMatchObject({ code: "object_corrupt", message: expect.stringContaining("p000001") });
});

test("who makes a part otherwise than it was made before is refused", async () => {
  const record = recordOf(await writeCorpus(), {});
  const objects: Objects = new Map();
  const parts = new MemoryParts();
  await planShared(record, { objects, parts });
  const [job] = parts.added;
  const keys = runKeys("r");
  objects.delete(keys.partDone(job!.part));
  const other = toolsOf(new ScriptedStore({ objects }), recordOf(record.inputs[0]!, { chunkTokens: 16 }));
  await expect(makePart(job!, other, never)).rejects.toMatchObject({ code: "run_conflict" });
  expect(objects.has(keys.partDone(job!.part))).toBe(false);
});

test("a lead that waits learns that its run was cancelled", async () => {
  const record = recordOf(await writeCorpus(), {});
  const objects: Objects = new Map();
  const parts = new MemoryParts();
  parts.add = async (job) => void objects.set(runKeys(job.run).cancelled, Buffer.from("{}"));
  await expect(planShared(record, { objects, parts })).rejects.toMatchObject({ code: "run_cancelled" });
});

test.each([1, 8])(
  "a part that cannot be made ends the run with its reason: a file that another machine does not have, of %d in a part",
  async (partObjects) => {
    const folder = await writeCorpus();
    const record = recordOf(folder, {});
    const objects: Objects = new Map();
    const parts = new MemoryParts();
    const add = parts.add.bind(parts);
    parts.add = async (job) => {
      if (recordText(objects, job).includes("table.csv")) await rm(join(folder, "table.csv"));
      await add(job);
    };
    const planning = planShared(record, { objects, parts, cut: { partObjects } });
    await expect(planning).rejects.toMatchObject({ code: "producer_failed" });
    await expect(planning).rejects.toThrow(/table\.csv.*not on this machine/);
  },
);

test("a small file that changes after it was listed ends the run, and the next one plans what it is then", async () => {
  const folder = await writeCorpus();
  const record = recordOf(folder, {});
  const objects: Objects = new Map();
  const changing = new MemoryParts();
  const add = changing.add.bind(changing);
  changing.add = async (job) => {
    if (recordText(objects, job).includes("21.md")) await writeFile(join(folder, "notes", "21.md"), "Other words.");
    await add(job);
  };
  await expect(planShared(record, { objects, parts: changing })).rejects.toThrow(/21\.md was changed/);
  const closed = await planShared(record, { objects, parts: new MemoryParts() });
  const alone = await planAlone(record);
  expect(closed).toEqual(alone.closed);
  expect(planOf(objects)).toEqual(planOf(alone.objects));
});

/** As a lead would offer it, but for whether it may. */
function offered(part: CorpusPart): { offer: OfferedPart; objects: Objects } {
  const offer = offerOf(part, "r", 0);
  return { offer, objects: new Map([[runKeys("r").partRecord(offer.job.part), offer.record]]) };
}

function fileOf(path: string): WholeObject {
  return { name: path, id: path, place: { kind: "file", path }, pin: null };
}

test("a part of what the run's corpus does not name is refused, and nothing is read", async () => {
  const folder = await writeCorpus();
  const secret = join(await tempFolder(), "secret.jsonl");
  for (const path of [secret, join(folder, "private.key"), join(folder, ".hidden.jsonl")])
    await writeFile(path, '{"id":"s","text":"secret"}\n');
  const strangers = [
    secret,
    `${folder}-too/x.jsonl`,
    join(folder, "private.key"),
    join(folder, ".hidden.jsonl"),
    `${folder}/../${basename(folder)}/twice.jsonl`,
    `${folder}/notes/../twice.jsonl`,
    `${folder}//twice.jsonl`,
  ];
  const own = fileOf(join(folder, "twice.jsonl"));
  for (const path of strangers) {
    const stranger = fileOf(path);
    const bundle = { name: "two", objects: [own, stranger], range: null };
    for (const part of [{ ...stranger, range: null }, { ...stranger, range: { start: 0, end: 9 } }, bundle]) {
      const { offer, objects } = offered(part);
      const store = new ScriptedStore({ objects });
      const making = makePart(offer.job, toolsOf(store, recordOf(folder, {})), never);
      await expect(making).rejects.toMatchObject({ code: "job_invalid", message: expect.stringContaining(path) });
      expect(store.calls.filter(({ op }) => op === "create")).toEqual([]);
    }
  }
});

test("a part that nobody offered is refused, whatever its job says", async () => {
  const folder = await writeCorpus();
  const { offer } = offered({ ...fileOf(join(folder, "twice.jsonl")), range: null });
  const store = new ScriptedStore();
  await expect(makePart(offer.job, toolsOf(store, recordOf(folder, {})), never)).rejects.toMatchObject({
    code: "job_invalid",
    message: expect.stringContaining("was offered"),
  });
  expect(store.calls.filter(({ op }) => op === "create")).toEqual([]);
});

test("a bucket is known again that was named with S3:// in capitals", async () => {
  const store = new ScriptedStore();
  const options = runOptions({ model: model.ref });
  const { record } = await openRun(store, { run: "r", inputs: ["S3://Bucket/Docs", "s3://bucket-b/x*.md"], options });
  expect(record.inputs).toEqual(["s3://Bucket/Docs", "s3://bucket-b/x*.md"]);
  const inBucket = (bucket: string, key: string): CorpusPart => {
    const entry = { key, bytes: 1, etag: "e" };
    return { name: key, id: key, place: { kind: "s3", bucket, entry }, range: null, pin: null };
  };
  const asked = async (part: CorpusPart): Promise<CorpusPart> => {
    const { offer, objects } = offered(part);
    return partOf(offer.job, { store: new ScriptedStore({ objects }), record });
  };
  for (const [bucket, key] of [
    ["Bucket", "Docs/a.md"],
    ["Bucket", "Docs"],
    ["bucket-b", "xy.md"],
  ] as const)
    expect(await asked(inBucket(bucket, key))).toEqual(inBucket(bucket, key));
  for (const [bucket, key] of [
    ["bucket", "Docs/a.md"],
    ["Bucket", "Docs/a.key"],
    ["Bucket", "Docs/.a.md"],
    ["Bucket", "Docs-too/a.md"],
    ["bucket-b", "x.txt"],
    ["bucket-b", "y.md"],
    ["bucket-b", "Docs/a.md"],
  ] as const)
    await expect(asked(inBucket(bucket, key))).rejects.toMatchObject({ code: "job_invalid" });
});

test("a part whose record is written slowly is offered and taken back before its reading is closed", async () => {
  let written = (): void => {};
  const until = new Promise<void>((resolve) => (written = resolve));
  const store = new ScriptedStore().script({ op: "create", keyMatches: /part\.json$/, outcome: { until } });
  const parts = new MemoryParts();
  const reader = new SharedReader({ store, queue: parts, run: "r" });
  const objects = ["a", "b"].map(fileOf);
  const closing = reader.read({ name: "two", objects, range: null }).close();
  written();
  await closing;
  expect(parts.added).toHaveLength(1);
  expect(parts.board.waiting).toEqual([]);
});

test("a record that is damaged, or another part's, is refused", async () => {
  const folder = await writeCorpus();
  const partsOf = (second: string): CorpusPart => {
    const wholes = ["table.csv", second].map((file) => fileOf(join(folder, file)));
    return { name: "two", objects: wholes, range: null };
  };
  const { offer, objects } = offered(partsOf("twice.jsonl"));
  const key = runKeys("r").partRecord(offer.job.part);
  const tools = toolsOf(new ScriptedStore({ objects }), recordOf(folder, {}));
  for (const other of [
    offered(partsOf("large.jsonl")).offer.record,
    offerOf(partsOf("twice.jsonl"), "r", 1).record,
    offerOf(partsOf("twice.jsonl"), "another", 0).record,
    offer.record.subarray(0, 40),
  ]) {
    objects.set(key, other);
    await expect(makePart(offer.job, tools, never)).rejects.toMatchObject({ code: "object_corrupt" });
  }
  objects.set(key, offer.record);
  await makePart(offer.job, tools, never);
  expect(objects.has(runKeys("r").partDone(offer.job.part))).toBe(true);
});

test("a piece that is damaged, or of another part, is refused", async () => {
  const record = recordOf(await writeCorpus(), {});
  const objects: Objects = new Map();
  await planShared(record, { objects, parts: new MemoryParts() });
  const [key, bytes] = [...objects].find(([name]) => /\/parts\/.*\/000000$/.test(name))!;
  const part = key.split("/")[3]!;
  expect(decodePiece(bytes, { run: "r", part, piece: 0 }).items.length).toBeGreaterThan(0);
  expect(() => decodePiece(bytes, { run: "r", part, piece: 1 })).toThrow(FleetError);
  for (const size of [2, 40, bytes.length - 40]) {
    expect(() => decodePiece(bytes.subarray(0, size), { run: "r", part, piece: 0 })).toThrow(FleetError);
  }
});
