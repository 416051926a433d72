/** A Python environment with the peers, and the model that all of them run, made once. */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { userCache } from "../../../src/cli/environment.ts";

export const sources = fileURLToPath(new URL("../../../../test/bench/peers", import.meta.url));
const models = fileURLToPath(new URL("../../../../models", import.meta.url));
/** Written last, so that what was broken off is made anew. */
const READY = "embedfleet-ready";

export interface PeerModel {
  /** In the hub's layout, with the encoder as ONNX. */
  readonly hub: string;
  /** The same weights, exported by embedfleet. */
  readonly exported: string;
}

/** Of an environment that has the packages; `PEERS_PYTHON` names one that is there already. */
export function peersPython(): string {
  const given = process.env["PEERS_PYTHON"];
  if (given !== undefined) return given;
  const folder = join(userCache(process.env), `peers-${digestOf("requirements.txt", "requirements-alone.txt")}`);
  const python = join(folder, "bin", "python");
  if (existsSync(join(folder, READY))) return python;
  console.log(`making a Python environment in ${folder}: 6 GB, some minutes, once`);
  rmSync(folder, { recursive: true, force: true });
  mustRun("python3", ["-m", "venv", folder]);
  const install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"] as const;
  // One that cannot be had must not keep the others away; what is missing says so when it is run.
  if (!runs([...install, "-r", join(sources, "requirements.txt")]))
    for (const wanted of requirements("requirements.txt")) runs([...install, wanted]);
  for (const wanted of requirements("requirements-alone.txt")) runs([...install, "--no-deps", wanted]);
  writeFileSync(join(folder, READY), "");
  return python;
}

export function peerModel(python: string): PeerModel {
  const folder = join(userCache(process.env), `peers-model-${digestOf("make_model.py")}`);
  const model = { hub: join(folder, "hub"), exported: join(folder, "exported") };
  if (existsSync(join(folder, READY))) return model;
  rmSync(folder, { recursive: true, force: true });
  mustRun(python, [join(sources, "make_model.py"), model.hub]);
  const args = ["-m", "export", "graph", model.hub, "--out", model.exported, "--precision", "fp32"];
  mustRun(python, args, { PYTHONPATH: models });
  writeFileSync(join(folder, READY), "");
  return model;
}

function requirements(file: string): string[] {
  const lines = readFileSync(join(sources, file), "utf8").split("\n");
  return lines.filter((line) => line !== "" && !line.startsWith("#"));
}

function digestOf(...files: readonly string[]): string {
  const hash = createHash("sha256");
  for (const file of files) hash.update(readFileSync(join(sources, file)));
  return hash.digest("hex").slice(0, 12);
}

function runs([command, ...args]: readonly [string, ...string[]]): boolean {
  const { status } = spawnSync(command, args, { stdio: ["ignore", "inherit", "inherit"] });
  if (status !== 0) console.error(`${[command, ...args].join(" ")} failed`);
  return status === 0;
}

function mustRun(command: string, args: readonly string[], env: Readonly<Record<string, string>> = {}): void {
  const { status, error } = spawnSync(command, args, {
    stdio: ["ignore", "ignore", "inherit"],
    env: { ...process.env, ...env },
  });
  if (status === 0) return;
  throw new Error(`${[command, ...args].join(" ")} failed`, { cause: error });
}
