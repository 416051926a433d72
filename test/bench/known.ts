/** Telling what has changed in a corpus of many known documents: time and memory of the comparison alone. */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { FileStore } from "../../src/adapters/file/file-store.ts";
import { encodeDocumentIndex } from "../../src/arrow/document-index.ts";
import { CONTENT_KEY_BYTES, contentHash } from "../../src/core/content.ts";
import type { Manifest, RunRecord, WindowPlan } from "../../src/core/contracts.ts";
import { toJsonBytes } from "../../src/core/json.ts";
import { runKeys, windowId } from "../../src/core/layout.ts";
import { KnownDocuments } from "../../src/run/known-documents.ts";
import { emptyTotals } from "../../src/run/seal.ts";
import { runOptions } from "../fixtures/run-options.ts";
import { type Bench, whole } from "./bench.ts";

const PER_WINDOW = 262_144;
/** One document in a hundred has changed, one is gone, and one is new. */
const CHANGED_SHARE = 0.01;
const BATCH = 10_000;
const TEXT = "a document of about a thousand characters ".repeat(24);

interface Measured {
  readonly documents: number;
  readonly memoryBytes: number;
  readonly loadSeconds: number;
  readonly hashSeconds: number;
  readonly admitSeconds: number;
  readonly listSeconds: number;
  readonly maxRssBytes: number;
  readonly baseRssBytes: number;
  readonly found: number;
}

function contentOf(index: number, version: number): Buffer {
  return contentHash({ id: "", text: `${version} ${index} ${TEXT}`, origin: { file: "" } });
}

/** A sealed run of that many documents, without their rows. */
async function writeBase(store: FileStore, documents: number): Promise<number> {
  const keys = runKeys("base");
  const options = runOptions({ model: { id: "m", revision: "1", sha256: "0".repeat(64), dim: 8, maxTokens: 8192 } });
  const createdAt = new Date(0).toISOString();
  const record: RunRecord = { version: 1, run: "base", createdAt, inputs: [], options };
  await store.create({ key: keys.record, body: toJsonBytes(record) });
  let indexBytes = 0;
  for (let first = 0, window = 0; first < documents; first += PER_WINDOW, window++) {
    const count = Math.min(PER_WINDOW, documents - first);
    const contentKeys = new Uint8Array(count * CONTENT_KEY_BYTES);
    for (let i = 0; i < count; i++)
      contentKeys.set(contentOf(first + i, 0).subarray(0, CONTENT_KEY_BYTES), i * CONTENT_KEY_BYTES);
    const ids = Array.from({ length: count }, (_, i) => `collection/document-${first + i}`);
    const body = encodeDocumentIndex("base", { ids, contentKeys, chunks: new Uint32Array(count).fill(1) });
    indexBytes += body.length;
    await store.create({ key: keys.documentIndex(windowId(window)), body });
    const plan: WindowPlan = {
      version: 1,
      run: "base",
      window: windowId(window),
      firstDocument: first,
      documents: count,
      rows: 0,
      tokens: 0,
      rejects: 0,
      sourceSha256: "0".repeat(64),
      stagedBytes: 0,
      shards: [],
      indexSha256: createHash("sha256").update(body).digest("hex"),
    };
    await store.create({ key: keys.plan(windowId(window)), body: toJsonBytes(plan) });
  }
  const totals = { ...emptyTotals(), documents };
  const manifest: Manifest = {
    version: 1,
    kind: "full",
    run: "base",
    createdAt,
    sealedAt: createdAt,
    options,
    totals,
    files: [],
    rejects: [],
  };
  await store.create({ key: keys.manifest, body: toJsonBytes(manifest) });
  return indexBytes;
}

async function seconds(act: () => Promise<void> | void): Promise<number> {
  const startedMs = performance.now();
  await act();
  return (performance.now() - startedMs) / 1000;
}

async function measure(folder: string, documents: number, memoryBytes: number): Promise<Measured> {
  const store = new FileStore(folder);
  const baseRssBytes = process.memoryUsage().rss;
  const startedMs = performance.now();
  const known = await KnownDocuments.load({ store, run: "base", memoryBytes });
  const loadSeconds = (performance.now() - startedMs) / 1000;
  const step = Math.round(1 / CHANGED_SHARE);
  let hashSeconds = 0;
  let admitSeconds = 0;
  let found = 0;
  for (let first = 0; first < documents; first += BATCH) {
    const indexes = Array.from({ length: Math.min(BATCH, documents - first) }, (_, i) => first + i);
    const batch: [id: string, content: Buffer][] = [];
    hashSeconds += await seconds(() => {
      for (const index of indexes) {
        if (index % step === 1) continue;
        batch.push([`collection/document-${index}`, contentOf(index, index % step === 0 ? 1 : 0)]);
      }
    });
    admitSeconds += await seconds(() => {
      for (const [id, content] of batch) if (known.admit(id, content) === "new") found++;
    });
  }
  const listSeconds = await seconds(async () => {
    for await (const _ of known.outdated()) found++;
  });
  known.close();
  const maxRssBytes = process.resourceUsage().maxRSS * 1024;
  const times = { loadSeconds, hashSeconds, admitSeconds, listSeconds };
  return { documents, memoryBytes, ...times, maxRssBytes, baseRssBytes, found };
}

const MIB = 1024 * 1024;
/** Of the 256 MiB that a producer gives the table before it goes on in a file. */
const MOST_IN_MEMORY = 5_000_000;

function isInFile({ memoryBytes, documents }: Measured): boolean {
  return memoryBytes === 0 || documents > MOST_IN_MEMORY;
}

export const bench: Bench = {
  title: "Known documents: what has changed in a corpus since its last run",
  async run({ size, documents = size === "full" ? 1_000_000 : 50_000 }) {
    const folder = mkdtempSync(join(tmpdir(), "embedfleet-bench-"));
    const figures: (Measured & { readonly indexBytes: number })[] = [];
    try {
      const indexBytes = await writeBase(new FileStore(folder), documents);
      // A process each, so that each one's memory is its own.
      for (const memoryBytes of documents > MOST_IN_MEMORY ? [256 * MIB] : [256 * MIB, 0]) {
        const args = [fileURLToPath(import.meta.url), folder, String(documents), String(memoryBytes)];
        const measured = JSON.parse(execFileSync(process.execPath, args).toString()) as Measured;
        figures.push({ ...measured, indexBytes });
      }
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
    return {
      figures,
      tables: [
        {
          title: "1 % changed, 1 % gone; texts of 1 KB",
          columns: [
            "documents, table",
            "load s",
            "hash s",
            "compare s",
            "list s",
            "documents/s",
            "index MB",
            "RSS MB before",
            "RSS MB at most",
          ],
          rows: figures.map((each) => {
            const total = each.loadSeconds + each.hashSeconds + each.admitSeconds + each.listSeconds;
            return [
              `${whole(each.documents)}, ${isInFile(each) ? "in a file" : "in memory"}`,
              ...[each.loadSeconds, each.hashSeconds, each.admitSeconds, each.listSeconds].map((s) => s.toFixed(1)),
              whole(each.documents / total),
              ...[each.indexBytes, each.baseRssBytes, each.maxRssBytes].map((bytes) => whole(bytes / 1e6)),
            ];
          }),
        },
      ],
      charts: {},
      notes: [
        "RSS counts no page cache: that of a table in a file is up to 92 bytes a document, and can be given back.",
      ],
    };
  },
};

const [, script, folder, documents, memoryBytes] = process.argv;
if (script === fileURLToPath(import.meta.url)) {
  console.log(JSON.stringify(await measure(folder!, Number(documents), Number(memoryBytes))));
}
