/** The device's own peak throughput, to compare a model's with. */
import { InferenceSession, Tensor } from "onnxruntime-node";
import type { Device } from "../../src/core/device-name.ts";
import { writeOnnx } from "../graph/onnx-writer.ts";
import { providersOf } from "./device.ts";

/** @returns The highest number of multiply-adds per second of one large fp32 product on the same runtime. */
export async function measurePeak(params: Readonly<{ device: Device; threads: number }>): Promise<number> {
  const SIZE = 1024;
  const graph = writeOnnx({
    inputs: { a: ["rows", SIZE] },
    constants: { b: { shape: [SIZE, SIZE], values: new Float32Array(SIZE * SIZE).fill(0.5) } },
    nodes: [{ op: "MatMul", inputs: ["a", "b"], output: "c" }],
    outputs: { c: ["rows", SIZE] },
  });
  const session = await InferenceSession.create(graph, {
    executionProviders: providersOf(params.device),
    intraOpNumThreads: params.threads,
  });
  const feeds = { a: new Tensor("float32", new Float32Array(SIZE * SIZE).fill(0.5), [SIZE, SIZE]) };
  let bestMs = Infinity;
  for (let i = 0; i < 20; i++) {
    const startedMs = performance.now();
    await session.run(feeds);
    bestMs = Math.min(bestMs, performance.now() - startedMs);
  }
  return (2 * SIZE ** 3 * 1000) / bestMs;
}
