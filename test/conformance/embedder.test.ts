import { ThreadEmbedder } from "../../models/onnx/thread-embedder.ts";
import { FallbackEmbedder } from "../../models/resilience/fallback-embedder.ts";
import { RecomputingEmbedder } from "../../models/resilience/recomputing-embedder.ts";
import { SplittingEmbedder } from "../../models/resilience/splitting-embedder.ts";
import { SandboxEmbedder } from "../../models/onnx/sandbox.ts";
import { unobserved as observe } from "../../src/core/telemetry.ts";
import { createLogger } from "../../src/telemetry/log.ts";
import { FaultyEmbedder } from "../fixtures/faulty-embedder.ts";
import { openMini } from "../fixtures/mini.ts";
import { embedderSuite } from "./embedder.suite.ts";

const model = await openMini();
const log = createLogger("silent");
const thread = (): Promise<ThreadEmbedder> => ThreadEmbedder.open({ model, threads: 1 });

embedderSuite("a session in a thread", thread);
embedderSuite(
  "a session in a sandboxed process",
  async () => new SandboxEmbedder({ model, threads: 1, maxBatchMs: 60_000 }),
);
embedderSuite("one that halves what does not fit", async () => {
  const embedder = new FaultyEmbedder({ embedder: await thread(), memoryTokens: 64 });
  return new SplittingEmbedder({ embedder, observe, log });
});
embedderSuite("one that computes again in fp32", async () => {
  const embedder = new FaultyEmbedder({ embedder: await thread(), nonFiniteTokens: 17 });
  return new RecomputingEmbedder({ embedder, precision: "fp16", openExact: thread, observe, log });
});
embedderSuite("one whose device is lost", async () => {
  const primary = new FaultyEmbedder({ embedder: await thread(), device: "cuda:0", isLost: true });
  return new FallbackEmbedder({ primary, reopen: async () => primary, openFallback: thread, observe, log });
});
