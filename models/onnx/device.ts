/** The devices that ONNX Runtime can run a model on, and whether this installation supports them. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { InferenceSession } from "onnxruntime-node";
import {
  CPU,
  type Device,
  type DeviceChoice,
  deviceName,
  parseDevice as parseName,
} from "../../src/core/device-name.ts";
import { FleetError } from "../../src/core/errors.ts";
import { runtimeFolder } from "./gpu-libraries.ts";

/** Kinds of devices that need a library of their own; the CPU provider is part of the runtime. */
const PROVIDERS = ["cuda", "tensorrt"] as const;

/** @returns Null for anything but `cpu`, `cuda:N` or `tensorrt:N`; the default of N is 0. */
export function parseDevice(text: string): Device | null {
  const device = parseName(text);
  return device === null || !isKnown(device) ? null : device;
}

/** The first device of each kind that this installation can open, best first; TensorRT is last, as it needs engines. */
export function devices(): Device[] {
  const first = (kind: (typeof PROVIDERS)[number]): Device[] => (isInstalled(kind) ? [{ kind, index: 0 }] : []);
  return [...first("cuda"), CPU, ...first("tensorrt")];
}

/**
 * `auto` is the first CUDA device where the runtime's library for it is installed, else the CPU.
 * @throws FleetError `bad_usage` for a named device whose library is not installed, or that ONNX Runtime does not have.
 */
export function chooseDevice(choice: DeviceChoice): Device {
  if (choice === "auto") return devices()[0]!;
  if (!isKnown(choice))
    throw new FleetError("bad_usage", `--device ${deviceName(choice)}: ONNX Runtime has no such device`, {
      cure: "use auto, cpu, cuda:N or tensorrt:N",
    });
  if (choice.kind === "cpu" || isInstalled(choice.kind)) return choice;
  throw new FleetError(
    "bad_usage",
    `--device ${deviceName(choice)}: ONNX Runtime's library for ${choice.kind} is not installed`,
    {
      cure: "on Linux x64 with CUDA 12: embedfleet doctor --install-gpu; or use --device cpu",
    },
  );
}

export function providersOf(device: Device): InferenceSession.ExecutionProviderConfig[] {
  const { kind, index } = device;
  if (kind === "cpu") return ["cpu"];
  const own = { name: kind, deviceId: index };
  // Shapes outside the engines run on CUDA.
  return kind === "tensorrt" ? [own, { name: "cuda", deviceId: index }] : [own];
}

/** The CUDA device of the same index, which runs the graph itself beside the engines compiled from it. */
export function cudaOf({ index }: Device): Device {
  return { kind: "cuda", index };
}

function isKnown({ kind }: Device): boolean {
  return kind === "cpu" || (PROVIDERS as readonly string[]).includes(kind);
}

/** Checks for the library's file, because the runtime would print an error of its own. */
function isInstalled(kind: string): boolean {
  if (process.platform !== "linux") return false;
  return existsSync(join(runtimeFolder(), `libonnxruntime_providers_${kind}.so`));
}
