import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll } from "vitest";
import { chooseEngine } from "../../models/choose-engine.ts";
import { openModel } from "../../models/registry/open-model.ts";
import { hashEngine } from "../fixtures/hash-engine.ts";
import { openMini } from "../fixtures/mini.ts";
import { foreignModel } from "../fixtures/foreign-model.ts";
import { embedderSuite } from "./embedder.suite.ts";
import { engineSuite } from "./engine.suite.ts";

const folder = await mkdtemp(join(tmpdir(), "embedfleet-test-"));
afterAll(() => rm(folder, { recursive: true }));
const foreign = await foreignModel(folder);

engineSuite(chooseEngine("onnx"), openMini);
engineSuite(hashEngine, () => openModel(foreign));
embedderSuite("the engine onnx, opened", async () => {
  const { embedder } = await chooseEngine("onnx").open({ model: await openMini(), threads: 1 });
  return embedder;
});
embedderSuite("the engine hash, opened", async () => {
  const { embedder } = await hashEngine.open({ model: await openModel(foreign), threads: 1 });
  return embedder;
});
