/**
 * Optional: needs a Python with models/export/requirements.txt, named by EXPORT_PYTHON. Without it the committed
 * references still hold the graphs, in model-export.test.ts; this shows that PyTorch still gives them.
 */
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { tempFolder } from "../fixtures/temp-folder.ts";

const python = process.env["EXPORT_PYTHON"];
const modelsFolder = fileURLToPath(new URL("../../models", import.meta.url));

interface Row {
  readonly ids: readonly number[];
  readonly dense: string;
}

function runPython(...args: readonly string[]): void {
  const done = spawnSync(python!, ["-m", "export", ...args], { cwd: modelsFolder, encoding: "utf8" });
  expect(done.status, done.stdout + done.stderr).toBe(0);
}

function rowsOf(file: string): Row[] {
  return (JSON.parse(readFileSync(file, "utf8")) as { rows: Row[] }).rows;
}

function floats(base64: string): Float32Array {
  return new Float32Array(Uint8Array.from(Buffer.from(base64, "base64")).buffer);
}

test.skipIf(python === undefined).each(["mini", "tiny"])(
  "%s as PyTorch files: the graph read from them is the generated one, and PyTorch gives the reference (needs EXPORT_PYTHON)",
  async (name) => {
    const folder = await tempFolder();
    const [checkpoint, fromFiles, generated] = ["checkpoint", "from-files", "generated"].map((each) =>
      join(folder, each),
    );
    runPython("checkpoint", `generated:${name}`, "--out", checkpoint!);
    runPython("graph", checkpoint!, "--out", fromFiles!, "--precision", "fp32");
    runPython("graph", `generated:${name}`, "--out", generated!, "--precision", "fp32");
    expect(readFileSync(join(fromFiles!, "model.onnx")).equals(readFileSync(join(generated!, "model.onnx")))).toBe(
      true,
    );

    runPython("reference", checkpoint!, "--out", join(fromFiles!, "reference.json"));
    const fresh = rowsOf(join(fromFiles!, "reference.json"));
    const committed = rowsOf(fileURLToPath(new URL(`../fixtures/reference/${name}.json`, import.meta.url)));
    expect(fresh.map(({ ids }) => ids)).toEqual(committed.map(({ ids }) => ids));
    fresh.forEach(({ dense }, row) => {
      const [found, wanted] = [floats(dense), floats(committed[row]!.dense)];
      found.forEach((value, i) => expect(Math.abs(value - wanted[i]!)).toBeLessThan(1e-5));
    });
  },
  300_000,
);
