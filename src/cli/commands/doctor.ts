/** `embedfleet doctor`: what this installation can run on, and the libraries for GPUs, which are installed on request. */
import { chooseEngine, gpuLibraries, installGpuLibraries } from "../../../models/choose-engine.ts";
import { deviceName } from "../../core/device-name.ts";
import { programVersion } from "../../fleet/program-version.ts";
import type { DoctorCommand } from "../command-settings.ts";
import { printJson, printLine } from "../output.ts";

export async function doctor(settings: DoctorCommand): Promise<void> {
  if (settings.installGpu) await installGpuLibraries();
  const engine = chooseEngine(undefined);
  const devices = engine.devices().map(deviceName);
  const gpu = gpuLibraries();
  const versions = { embedfleet: programVersion(), node: process.versions.node, [engine.name]: engine.version };
  if (settings.json) return printJson({ versions, devices, gpuLibraries: gpu });
  const { missing, installed, folder } = gpu;
  const some = missing.length > 0 ? "not installed; embedfleet doctor --install-gpu downloads them" : `in ${folder}`;
  const facts = {
    versions: Object.entries(versions)
      .map(([name, version]) => `${name} ${version}`)
      .join(", "),
    devices: devices.join(", "),
    "gpu libraries": missing.length + installed.length === 0 ? "none for this platform" : some,
  };
  for (const [name, value] of Object.entries(facts)) printLine(`${name.padEnd(14)} ${value}`);
}
