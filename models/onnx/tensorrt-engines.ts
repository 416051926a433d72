/**
 * TensorRT engines, loaded beside the graph that they were compiled from. Only the graph is part of the model's digest,
 * because each kind of GPU has engines of its own; so an engine is used only if its vectors match the graph's.
 */
import { join } from "node:path";
import { InferenceSession } from "onnxruntime-node";
import { allocateShard, type ShardBuffers } from "../../src/core/batch.ts";
import type { Head } from "../../src/core/contracts.ts";
import { messageOf } from "../../src/core/errors.ts";
import { PRECISIONS } from "./precisions.ts";
import { providersOf } from "./device.ts";
import { assertListed } from "../graph/graph-files.ts";
import type { OnnxManifest } from "../registry/manifest.ts";
import { loadPinned, type PinnedFile } from "../registry/pinned-files.ts";
import { changedFile, sha256Of, statPlain } from "../registry/plain-file.ts";
import type { SessionParams } from "./session-params.ts";
import type { BatchShape, Engine } from "./tensorrt-tiers.ts";

export interface Tier extends Engine {
  readonly session: InferenceSession;
}

/** Opens the engines. One that does not load, or whose files differ from the manifest's, is skipped. */
export async function openTiers(
  { engines, folder, device, modelSha256 }: SessionParams,
  options: InferenceSession.SessionOptions,
): Promise<{ tiers: Tier[]; notes: string[] }> {
  const tiers: Tier[] = [];
  const notes: string[] = [];
  if (device.kind === "tensorrt" && engines.length === 0)
    notes.push("the model has no engine for this GPU, runtime and precision: CUDA takes its batches");
  for (const engine of engines) {
    const path = engineName(folder, engine);
    try {
      const { weightsSha256 = modelSha256 } = engine;
      if (weightsSha256 !== modelSha256) throw new Error("it was compiled from other weights");
      const [graph, ...listed] = engine.files.map((file) => file.path);
      assertListed({ folder, graph: graph!, listed });
      const load = (): Promise<InferenceSession> =>
        InferenceSession.create(path, { ...options, executionProviders: providersOf(device) });
      tiers.push({ ...engine, session: await loadPinned(await pinFiles(folder, engine), load) });
    } catch (error) {
      notes.push(notUsed(folder, engine, messageOf(error)));
    }
  }
  return { tiers, notes };
}

async function pinFiles(folder: string, { files }: Engine): Promise<PinnedFile[]> {
  const pinned: PinnedFile[] = [];
  for (const file of files) {
    const path = join(folder, file.path);
    const { identity } = statPlain(path);
    const sha256 = await sha256Of(path, identity);
    if (sha256 !== (file.sha256 ?? sha256)) throw changedFile(path);
    pinned.push({ path, sha256, identity });
  }
  return pinned;
}

export function notUsed(folder: string, engine: Engine, reason: string): string {
  const name = engineName(folder, engine);
  return `the engine ${name} cannot be used, so CUDA takes its batches: ${reason} (it was compiled with TensorRT ${engine.trtVersion})`;
}

function engineName(folder: string, { files }: Engine): string {
  return join(folder, files[0]!.path);
}

/** Tokens per test row, where the engine accepts that length. */
const TEST_TOKENS = 64;

/** Test rows in the engine's shape range, which depend on the whole model: ids from the whole vocabulary. */
export function testRows(
  manifest: OnnxManifest,
  { min, max }: Readonly<{ min: BatchShape; max: BatchShape }>,
): ShardBuffers {
  const length = Math.max(min.length, Math.min(TEST_TOKENS, max.length));
  const heads = Object.keys(manifest.heads) as Head[];
  const shard = allocateShard({ lengths: Array.from({ length: min.batch }, () => length), dim: manifest.dim, heads });
  const { vocabSize } = manifest.architecture;
  // A prime, so that ids repeat only after most of the vocabulary.
  for (let i = 0; i < shard.ids.length; i++) shard.ids[i] = (i * 7919) % vocabSize;
  return shard;
}

/**
 * Whether an engine's vectors match the graph's. Both may differ from PyTorch's by as much as `models check` allows, so
 * two that pass it are within twice that angle of each other.
 */
export function givesSame(engine: ShardBuffers, graph: ShardBuffers, { precision }: Engine): boolean {
  const atLeast = 2 * PRECISIONS[precision]! ** 2 - 1;
  const pairs = [
    [engine.dense, graph.dense],
    [engine.colbert, graph.colbert],
    [engine.sparseValues, graph.sparseValues],
  ] as const;
  return pairs.every(([found, wanted]) => found === null || cosine(found, wanted!) >= atLeast);
}

/** Cosine similarity; 1 for two zero vectors. */
export function cosine(a: Float32Array, b: Float32Array): number {
  let [dot, aSquares, bSquares] = [0, 0, 0];
  a.forEach((value, i) => {
    dot += value * b[i]!;
    aSquares += value * value;
    bSquares += b[i]! * b[i]!;
  });
  return aSquares === 0 && bSquares === 0 ? 1 : dot / Math.sqrt(aSquares * bSquares);
}
