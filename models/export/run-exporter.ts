/** Runs the Python exporter in `models/export`, in an environment that is created once. */
import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { childEnvironment } from "../../src/core/child-environment.ts";
import type { Precision } from "../../src/core/contracts.ts";
import { FleetError } from "../../src/core/errors.ts";
import { modelsFolder } from "../registry/registry.ts";

export interface ExportParams {
  /** A folder in the hub's layout, or `generated:mini`, `generated:tiny`, `generated:large`. */
  readonly source: string;
  /** The folder to write, for use with `--model`. */
  readonly into: string;
  readonly precisions: readonly string[];
  /** Patterns of layers that int8 leaves in float32; empty for those that the model is known to need. */
  readonly keepFloat: readonly string[];
  readonly tensorrt: boolean;
  /** Folder in which the environment is created and kept. */
  readonly cacheFolder: string;
}

/** Precisions that the exporter writes, all by default; engines may compute others. */
export const EXPORT_PRECISIONS = ["fp32", "fp16", "int8"] as const satisfies readonly Precision[];

const GENERATED = "generated:";
/** Marker written last, so that an incomplete environment is recreated. */
const READY = "embedfleet-ready";
const SUPPORTED = "import sys; sys.exit(sys.version_info < (3, 11))";

/** How the exporter ended, and what it wrote to its error output. */
interface Ended {
  readonly status: number | null;
  readonly errors: string;
}

/** Exports a model. @throws FleetError `model_invalid` for an unsuitable source, `bad_usage` when Python is missing. */
export async function exportModel(params: ExportParams): Promise<void> {
  const { source, into, precisions, keepFloat, tensorrt } = params;
  checkSource(source);
  const python = pythonFor(params);
  const args = ["-m", "export", "graph", source, "--out", into, "--precision", precisions.join(",")];
  for (const pattern of keepFloat) args.push("--keep-float", pattern);
  if (tensorrt) args.push("--tensorrt");
  assertDone(await runAloud(python, args));
  if (source.startsWith(GENERATED)) return;
  const reference = join(into, "reference.json");
  assertDone(await runAloud(python, ["-m", "export", "reference", source, "--out", reference]));
}

/**
 * Reads config.json, modules.json and what else lies beside the weights, for which any Python will do: a model that
 * cannot be exported is refused before minutes are spent on an environment. Without a Python, the environment has one.
 */
function checkSource(source: string): void {
  const python = source.startsWith(GENERATED)
    ? undefined
    : ["python3"].find((each) => succeeds(each, ["-c", SUPPORTED]));
  if (python === undefined) return;
  const env = { ...childEnvironment(), PYTHONPATH: modelsFolder() };
  const { status, stderr } = spawnSync(python, ["-m", "export.layout", source], { env, encoding: "utf8" });
  assertDone({ status, errors: stderr });
}

/** @throws FleetError `model_invalid` with the exporter's own message and cure, or with all that it wrote. */
function assertDone({ status, errors }: Ended): void {
  if (status === 0) return;
  const expected = /^error: (.*)\n?([^]*)/m.exec(errors);
  const isExpected = expected !== null && status === 1 && !errors.includes("Traceback");
  const cure = isExpected ? expected[2]!.trim().replace(/\s*\n\s*/g, " ") : "";
  throw new FleetError(
    "model_invalid",
    isExpected ? expected[1]! : `the exporter ended with ${status}:\n${errors.trim()}`,
    cure === "" ? {} : { cure },
  );
}

/** A generated model needs only numpy and onnx, which the system's Python may have. */
function pythonFor({ source, cacheFolder, tensorrt }: ExportParams): string {
  const own = ["python3", "/usr/bin/python3"].find((each) => succeeds(each, ["-c", "import numpy, onnx"]));
  if (source.startsWith(GENERATED) && !tensorrt && own !== undefined) return own;
  const requirements = join(modelsFolder(), "export", "requirements.txt");
  const version = createHash("sha256").update(readFileSync(requirements)).digest("hex").slice(0, 12);
  const folder = join(cacheFolder, `export-${version}`);
  if (!existsSync(join(folder, READY))) makeEnvironment(folder, requirements);
  return join(folder, "bin", "python");
}

function makeEnvironment(folder: string, requirements: string): void {
  console.log(`creating a Python environment with PyTorch in ${folder}; this happens once and takes some minutes`);
  rmSync(folder, { recursive: true, force: true });
  const steps = succeeds("uv", ["--version"])
    ? [
        ["uv", "venv", "--quiet", "--python", ">=3.11", folder],
        ["uv", "pip", "install", "--quiet", "--python", join(folder, "bin", "python"), "-r", requirements],
      ]
    : [
        [basePython(), "-m", "venv", folder],
        [join(folder, "bin", "python"), "-m", "pip", "install", "--quiet", "-r", requirements],
      ];
  for (const [command, ...args] of steps) {
    const { status } = spawnSync(command!, args, { env: childEnvironment(), stdio: ["ignore", "inherit", "inherit"] });
    if (status === 0) continue;
    throw new FleetError("model_unavailable", `${[command, ...args].join(" ")} failed`, {
      cure: "see the message above; the packages come from pip's configured index, about 5 GB with PyTorch's CUDA libraries",
    });
  }
  writeFileSync(join(folder, READY), "");
}

function basePython(): string {
  const found = ["python3", "python3.13", "python3.12", "python3.11"].find((each) => succeeds(each, ["-c", SUPPORTED]));
  if (found !== undefined) return found;
  throw new FleetError("bad_usage", "models export needs Python 3.11 or newer, which is not installed", {
    cure: "install uv, which brings a Python of its own, or python3 with python3-venv",
  });
}

function succeeds(command: string, args: readonly string[]): boolean {
  return spawnSync(command, args, { env: childEnvironment(), stdio: "ignore" }).status === 0;
}

/** Forwards the process's output to this process's as it arrives; its error output is returned. */
function runAloud(python: string, args: readonly string[]): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const env = { ...childEnvironment(), PYTHONPATH: modelsFolder() };
    const child = spawn(python, args, { env, stdio: ["ignore", "inherit", "pipe"] });
    let errors = "";
    child.stderr.setEncoding("utf8").on("data", (text: string) => (errors += text));
    child.once("error", reject);
    child.once("close", (status) => resolve({ status, errors }));
  });
}
