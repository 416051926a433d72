/** Pipes, sockets, devices and folders in the places of a model's files are refused, and nobody waits for them. */
import { spawn, spawnSync } from "node:child_process";
import { cp, mkdir, rm, symlink, writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:net";
import { dirname, join } from "node:path";
import { expect, test } from "vitest";
import { describeFolder } from "../../models/registry/hub-folder.ts";
import { cli } from "../fixtures/cli.ts";
import { ExternalFolders, HUB_FOLDER } from "../fixtures/external-folder.ts";
import { runExport } from "../fixtures/model-export.ts";
import { tempFolder } from "../fixtures/temp-folder.ts";

const DATA = "model.onnx_data";
const FILES = [
  "config.json",
  "tokenizer.json",
  "onnx/model.onnx",
  `onnx/${DATA}`,
  "sparse_linear.pt",
  "colbert_linear.pt",
  "1_Pooling/config.json",
  "sentence_bert_config.json",
  "config_sentence_transformers.json",
  "manifest.json",
];

function pipe(place: string): void {
  expect(spawnSync("mkfifo", [place]).status).toBe(0);
}

const servers: Server[] = [];
const KINDS: Record<string, [put: (place: string) => Promise<void> | void, message: RegExp]> = {
  pipe: [pipe, /is a named pipe, not a regular file/],
  "link to a pipe": [
    async (place) => {
      pipe(`${place}.pipe`);
      await symlink(`${place}.pipe`, place);
    },
    /is a named pipe, not a regular file/,
  ],
  "device without an end": [(place) => symlink("/dev/zero", place), /is a device, not a regular file/],
  folder: [(place) => mkdir(place), /is a folder, not a regular file/],
  socket: [
    async (place) => {
      const server = createServer();
      servers.push(server);
      await new Promise<void>((resolve) => server.listen(place, resolve));
    },
    /is a socket, not a regular file/,
  ],
};

/** Opens each folder as a worker would, in a process of its own: one that waits for ever can be ended. */
async function openAll(folders: readonly string[]): Promise<{ code: string; message: string }[]> {
  const module = (name: string): string => JSON.stringify(new URL(`../../dist/models/${name}.js`, import.meta.url));
  const code = `
    const { findModel } = await import(${module("registry/registry")});
    const { openModel } = await import(${module("registry/open-model")});
    const { openTokenizer } = await import(${module("tokenizer/open-tokenizer")});
    const { sessionParams } = await import(${module("onnx/thread-embedder")});
    const { ModelSession } = await import(${module("onnx/session")});
    const open = async (folder) => {
      const model = await openModel(findModel(folder, { modelsFolder: "" }));
      await openTokenizer(model, "passage");
      await ModelSession.open(sessionParams({ model, threads: 1 }));
      return { code: "opened", message: "" };
    };
    for (const folder of process.argv.slice(1))
      console.log(JSON.stringify(await open(folder).catch(({ code, message }) => ({ code, message }))));`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", code, ...folders]);
  const timer = setTimeout(() => child.kill("SIGKILL"), 60_000);
  let output = "";
  child.stdout.on("data", (chunk: Buffer) => (output += chunk.toString()));
  await new Promise((resolve) => child.on("close", resolve));
  clearTimeout(timer);
  return output
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line));
}

test("whatever stands in a file's place, the model is refused at once", async () => {
  const made = new ExternalFolders([DATA]);
  const sound = await made.make({ location: DATA });
  const cases = FILES.flatMap((file) =>
    Object.entries(KINDS).map(([kind, [put, message]]) => ({ file, kind, put, message })),
  );
  const root = await tempFolder();
  const folders = await Promise.all(
    cases.map(async ({ file, put }, i) => {
      const folder = join(root, String(i));
      await cp(sound, folder, { recursive: true });
      await mkdir(dirname(join(folder, file)), { recursive: true });
      await rm(join(folder, file), { force: true });
      await put(join(folder, file));
      return folder;
    }),
  );
  const found = await openAll([sound, ...folders]);
  for (const server of servers) server.close();
  expect(found[0]).toEqual({ code: "opened", message: "" });
  expect(found).toHaveLength(cases.length + 1);
  cases.forEach(({ file, kind, message }, i) => {
    expect(found[i + 1], `${kind} for ${file}`).toEqual({
      code: "model_invalid",
      message: expect.stringMatching(message),
    });
    expect(found[i + 1]!.message).toContain(file.split("/").at(-1));
  });
});

test("models check and models bench refuse a pipe, and so does an export", async () => {
  const folder = join(await tempFolder(), "little");
  await cp(HUB_FOLDER, folder, { recursive: true });
  pipe(join(folder, "reference.json"));
  expect(await cli(["models", "check", folder])).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(/reference\.json is a named pipe/),
  });
  await writeFile(join(folder, "manifest.json"), JSON.stringify(describeFolder(folder)));
  await rm(join(folder, "config.json"));
  pipe(join(folder, "config.json"));
  expect(await cli(["models", "bench", folder, "--threads", "1", "--max-batch-tokens", "64"])).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(/config\.json is a named pipe/),
  });
  const { status, output } = runExport("graph", folder, "--out", join(folder, "out"));
  expect({ status, output }).toEqual({
    status: 1,
    output: expect.stringMatching(/^error: .* is not a regular file\n {2}/),
  });
});
