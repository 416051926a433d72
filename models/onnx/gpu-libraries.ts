/** ONNX Runtime's libraries for GPUs. They are too large for its package: its own script downloads them, on request. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { childEnvironment } from "../../src/core/child-environment.ts";
import { FleetError } from "../../src/core/errors.ts";

/** The folder of the runtime for this machine, and the libraries for GPUs that belong there. */
export interface GpuLibraries {
  readonly folder: string;
  readonly installed: readonly string[];
  readonly missing: readonly string[];
}

/** What ONNX Runtime's installer knows; its package describes no more. */
interface InstallMetadata {
  /** Names of manifests, by `platform/arch`. */
  readonly requirements: Readonly<Record<string, readonly string[]>>;
  /** Files of a manifest, by `platform/arch:name`. */
  readonly manifests: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
}

const require = createRequire(import.meta.url);
const PLATFORM = `${process.platform}/${process.arch}`;

/** The folder of ONNX Runtime's libraries for this platform. */
export function runtimeFolder(): string {
  return join(dirname(require.resolve("onnxruntime-node/package.json")), "bin", "napi-v6", PLATFORM);
}

/** Which libraries for GPUs there are for this platform. There are none for most. */
export function gpuLibraries(): GpuLibraries {
  const { requirements, manifests } = require("onnxruntime-node/script/install-metadata.js") as InstallMetadata;
  const names = requirements[PLATFORM] ?? [];
  const files = names.flatMap((name) => Object.keys(manifests[`${PLATFORM}:${name}`] ?? {}));
  const folder = runtimeFolder();
  const isInstalled = (file: string): boolean => existsSync(join(folder, file));
  const plain = files.map((file) => file.replace(/^\.\//, ""));
  return { folder, installed: plain.filter(isInstalled), missing: plain.filter((file) => !isInstalled(file)) };
}

/**
 * Downloads the libraries that are missing, by ONNX Runtime's own installer, which prints to standard error.
 * @throws FleetError `bad_usage` where there are none for this platform; `addon_missing` when the download failed.
 */
export async function installGpuLibraries(): Promise<void> {
  const { folder, installed, missing } = gpuLibraries();
  if (installed.length + missing.length === 0)
    throw new FleetError("bad_usage", `ONNX Runtime has no libraries for GPUs on ${PLATFORM}`, {
      cure: "workers on GPUs need Linux on x64, with CUDA 12",
    });
  if (missing.length === 0) return;
  const installer = spawn(process.execPath, [require.resolve("onnxruntime-node/script/install.js")], {
    env: { ...childEnvironment(), ONNXRUNTIME_NODE_INSTALL: "true" },
    stdio: ["ignore", 2, 2],
  });
  const [code, signal] = (await once(installer, "exit")) as [number | null, NodeJS.Signals | null];
  if (code === 0 && gpuLibraries().missing.length === 0) return;
  throw new FleetError(
    "addon_missing",
    `ONNX Runtime's installer ended with ${signal ?? `exit code ${code}`}: its libraries for GPUs are not installed`,
    {
      cure: `it downloads them from ONNX Runtime's own feed; where that cannot be reached, copy ${missing.join(", ")} from another machine with the same version of embedfleet into ${folder}`,
    },
  );
}
