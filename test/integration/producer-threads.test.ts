/** A producer with threads of its own makes the plan that one without makes, to the byte. */
import { appendFile, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { expect, onTestFinished, test } from "vitest";
import { loadTokenizer } from "../../models/tokenizer/native.ts";
import { produce } from "../../producers/plan-corpus.ts";
import { ProducerThreads } from "../../producers/parts/producer-threads.ts";
import { readParts } from "../../producers/parts/read-parts.ts";
import { Corpus } from "../../producers/corpus.ts";
import type { Section } from "../../producers/parts/sections.ts";
import { selectItems } from "../../producers/sources/select.ts";
import type { ClosedRecord, RunOptions, RunRecord } from "../../src/core/contracts.ts";
import { FleetError } from "../../src/core/errors.ts";
import { openMini } from "../fixtures/mini.ts";
import { makeCorpus } from "../fixtures/made-corpus.ts";
import { MemoryQueue } from "../fixtures/memory-queue.ts";
import { runOptions } from "../fixtures/run-options.ts";
import { ScriptedStore } from "../fixtures/scripted-store.ts";
import { tempFolder } from "../fixtures/temp-folder.ts";

const PART_BYTES = 16 * 1024;
const model = await openMini();

/** Every kind of part: ranges of a large file, whole files of several formats, damaged ones, ids that come twice. */
async function writeCorpus(): Promise<string> {
  const folder = await tempFolder();
  await mkdir(join(folder, "pages"));
  const large = makeCorpus({ documents: 300, seed: 5 }).split("\n");
  large.splice(120, 0, "no json", "", '{"id":"no text"}');
  await writeFile(join(folder, "large.jsonl"), large.join("\r\n"));
  const again = makeCorpus({ documents: 40, seed: 6, maxWords: 50 });
  const zipped = gzipSync(again.replaceAll('"id":"d', '"id":"z'));
  const cut = gzipSync(again.replaceAll('"id":"d', '"id":"y')).subarray(0, -200);
  await writeFile(join(folder, "twice.jsonl"), again);
  await writeFile(join(folder, "zipped.jsonl.gz"), zipped);
  await writeFile(join(folder, "damaged.jsonl.gz"), cut);
  await writeFile(join(folder, "table.csv"), "id,text,lang\nc1,first row,en\nc2,first row,\n");
  for (let page = 0; page < 20; page++) {
    await writeFile(join(folder, "pages", `${page}.md`), `# Page ${page}\n\n${"One paragraph.\n\n".repeat(page * 9)}`);
  }
  return folder;
}

async function plan(
  folder: string,
  given: Partial<RunOptions>,
  threads: number | null,
): Promise<{ objects: Map<string, string>; closed: ClosedRecord }> {
  const options = runOptions({ model: model.ref, overlap: 8, maxDocumentBytes: 1 << 20, ...given });
  const corpus = new Corpus({ inputs: [folder], ...options });
  const objects = new Map<string, Uint8Array>();
  const record: RunRecord = { version: 1, run: "r", createdAt: "2026-01-01T00:00:00.000Z", inputs: [folder], options };
  const common = { store: new ScriptedStore({ objects }), queue: new MemoryQueue(), record, maxRejects: null };
  const closed =
    threads === null
      ? await produce({ ...common, items: corpus.items(), tokenizer: await loadTokenizer(model.tokenizerPath) })
      : await produce({ ...common, ...(await threaded(corpus, options, threads)) });
  return { objects: new Map([...objects].map(([key, body]) => [key, Buffer.from(body).toString("base64")])), closed };
}

async function threaded(corpus: Corpus, options: RunOptions, threads: number) {
  const setup = { model, cutting: options, reading: options, s3: undefined };
  const chunker = await ProducerThreads.open({ threads, setup });
  onTestFinished(() => chunker.close());
  return { chunker, items: selectItems(readParts(corpus.sections({ partBytes: PART_BYTES }), chunker), options.limit) };
}

test.each<[name: string, options: Partial<RunOptions>]>([
  ["all of it", {}],
  ["--limit", { limit: 200 }],
  ["--sample", { sample: 0.4 }],
  ["--dedupe", { dedupe: true }],
  [
    "chunks with their texts and a kept field",
    { chunking: "markdown", chunkTokens: 32, keepText: true, keep: ["lang"] },
  ],
])("one thread and three make the same objects: %s", async (_, options) => {
  const folder = await writeCorpus();
  const alone = await plan(folder, options, null);
  expect(alone.closed.rows).toBeGreaterThan(50);
  const shared = await plan(folder, options, 3);
  expect(shared.closed).toEqual(alone.closed);
  expect([...shared.objects.keys()]).toEqual([...alone.objects.keys()]);
  for (const [key, body] of alone.objects) expect(shared.objects.get(key) === body, key).toBe(true);
});

test("the corpus of these tests has rejects of every part, and a large file in several ranges", async () => {
  const folder = await writeCorpus();
  const corpus = new Corpus({ inputs: [folder], ...runOptions({ model: model.ref, maxDocumentBytes: 1 << 20 }) });
  const ranges: number[] = [];
  for await (const section of corpus.sections({ partBytes: PART_BYTES })) {
    if (section.kind === "part" && section.part.range !== null) ranges.push(section.part.range.start);
  }
  expect(ranges.length).toBeGreaterThan(5);
  const { closed, objects } = await plan(folder, {}, 3);
  expect(closed).toMatchObject({ rejects: 43 });
  const rejects = Buffer.from(objects.get("runs/r/rejects/w000000.jsonl")!, "base64").toString();
  expect(rejects).toContain('"line":121}');
  expect(rejects).toContain("damaged or ends early");
});

test("a file that is written to while its ranges are read ends the producer, as for one reader", async () => {
  const path = join(await tempFolder(), "corpus.jsonl");
  await writeFile(path, makeCorpus({ documents: 300, seed: 8 }));
  const options = runOptions({ model: model.ref, maxDocumentBytes: 1 << 20 });
  const corpus = new Corpus({ inputs: [path], ...options });
  const sections: Section[] = [];
  for await (const section of corpus.sections({ partBytes: PART_BYTES })) sections.push(section);
  await appendFile(path, '{"id":"late","text":"x"}\n');
  const { chunker } = await threaded(corpus, options, 1);
  async function* listed() {
    yield* sections;
  }
  const reading = async (): Promise<void> => {
    for await (const _ of readParts(listed(), chunker));
  };
  await expect(reading()).rejects.toMatchObject({ code: "source_changed" });
});

test("a tokenizer that is no tokenizer is refused before anything is read", async () => {
  const broken = join(await tempFolder(), "tokenizer.json");
  await writeFile(broken, "{}");
  const options = runOptions({ model: model.ref });
  const setup = { model: { ...model, tokenizerPath: broken }, cutting: options, reading: options, s3: undefined };
  const opening = ProducerThreads.open({ threads: 2, setup });
  await expect(opening).rejects.toThrow(FleetError);
  await expect(opening).rejects.toMatchObject({ code: "model_invalid" });
});
