/** Plans one JSONL file into a folder store that is thrown away; as a process of its own, tells its peak memory. */
import { existsSync, readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { loadTokenizer } from "../../models/tokenizer.ts";
import { produce } from "../../producers/produce.ts";
import { ProducerThreads } from "../../producers/producer-threads.ts";
import { Corpus } from "../../producers/sources/corpus.ts";
import { openRun } from "../../src/run/open-run.ts";
import { MemoryQueue } from "../fixtures/memory-queue.ts";
import { openMini } from "../fixtures/mini.ts";
import { runOptions } from "../fixtures/run-options.ts";
import { openStore } from "./fleet.ts";

/** @returns Tokens planned, special tokens included. */
export async function produceFile(file: string, threads = 1): Promise<number> {
  const folder = await mkdtemp(join(tmpdir(), "embedfleet-bench-"));
  const model = await openMini();
  const options = runOptions({ model: model.ref, maxTokens: 8192, maxDocumentBytes: 1 << 26 });
  const corpus = new Corpus({ inputs: [file], ...options });
  try {
    const store = await openStore(folder);
    const { record } = await openRun(store, { run: "bench", inputs: [file], options, since: undefined });
    const common = { store, queue: new MemoryQueue(), record, maxRejects: null };
    if (threads === 1) {
      const tokenizer = await loadTokenizer(model.tokenizerPath);
      return (await produce({ ...common, tokenizer, items: corpus.items() })).tokens;
    }
    const cutter = await ProducerThreads.open({
      threads,
      setup: { model, cutting: options, reading: options, s3: undefined },
    });
    try {
      return (await produce({ ...common, cutter, items: corpus.items(cutter) })).tokens;
    } finally {
      await cutter.close();
    }
  } finally {
    await corpus.close();
    await rm(folder, { recursive: true, force: true });
  }
}

/** Where the system tells it; `resourceUsage` counts what the parent held when it started this process. */
function peakBytes(): number {
  if (!existsSync("/proc/self/status")) return process.resourceUsage().maxRSS * 1024;
  return Number(/VmHWM:\s+(\d+)/.exec(readFileSync("/proc/self/status", "latin1"))![1]) * 1024;
}

if (process.send !== undefined && process.argv[2] !== undefined) {
  await produceFile(process.argv[2]);
  process.send(peakBytes(), () => process.disconnect());
}
