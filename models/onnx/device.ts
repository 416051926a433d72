/** Where a model runs, and whether this installation can. */
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import type { InferenceSession } from "onnxruntime-node";
import { FleetError } from "../../src/core/errors.ts";

export interface Device {
  readonly kind: "cpu" | "cuda" | "tensorrt";
  /** Which one of several; 0 on the CPU. */
  readonly index: number;
}

export const CPU: Device = { kind: "cpu", index: 0 };

/** @returns Null for anything else than `cpu`, `cuda:N` or `tensorrt:N`; without a number it is the first. */
export function parseDevice(text: string): Device | null {
  const [, kind, index] = /^(cpu|cuda|tensorrt)(?::(\d{1,2}))?$/.exec(text) ?? [];
  if (kind === undefined || (kind === "cpu" && index !== undefined)) return null;
  return { kind: kind as Device["kind"], index: Number(index ?? 0) };
}

/** `cpu`, `cuda:0`, `tensorrt:1` */
export function deviceName({ kind, index }: Device): string {
  return kind === "cpu" ? "cpu" : `${kind}:${index}`;
}

/**
 * `auto` is the first CUDA device where the runtime's library for it is installed, else the CPU.
 * @throws FleetError `bad_usage` when a device is named whose library is not installed.
 */
export function chooseDevice(choice: Device | "auto"): Device {
  if (choice === "auto") return isInstalled("cuda") ? { kind: "cuda", index: 0 } : CPU;
  if (choice.kind === "cpu" || isInstalled(choice.kind)) return choice;
  throw new FleetError(
    "bad_usage",
    `--device ${deviceName(choice)}: ONNX Runtime's library for ${choice.kind} is not installed`,
    {
      cure: "on Linux x64 with CUDA 12: npm rebuild onnxruntime-node --onnxruntime-node-install=cuda12; or use --device cpu",
    },
  );
}

export function providersOf(device: Device): InferenceSession.ExecutionProviderConfig[] {
  const { kind, index } = device;
  if (kind === "cpu") return ["cpu"];
  const own = { name: kind, deviceId: index };
  // What an engine does not hold runs on CUDA.
  return kind === "tensorrt" ? [own, { name: "cuda", deviceId: index }] : [own];
}

/** The graph itself runs on CUDA, beside the engines that were made from it. */
export function cudaOf({ index }: Device): Device {
  return { kind: "cuda", index };
}

/** Asking the runtime itself would print its own error first. */
function isInstalled(kind: "cuda" | "tensorrt"): boolean {
  if (process.platform !== "linux") return false;
  const root = dirname(createRequire(import.meta.url).resolve("onnxruntime-node/package.json"));
  const library = `libonnxruntime_providers_${kind}.so`;
  return existsSync(join(root, "bin", "napi-v6", process.platform, process.arch, library));
}
