/** A worker whose model is not what it should be ends with cause and cure, before it takes a job. */
import { createHash, randomUUID } from "node:crypto";
import { cp, mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Queue } from "bullmq";
import { expect, inject, test } from "vitest";
import { describeFolder } from "../../models/registry/hub-folder.ts";
import { connectRedis } from "../../src/adapters/redis/connect.ts";
import { QUEUE_PREFIX } from "../../src/adapters/redis/queue-options.ts";
import { cli } from "../fixtures/cli.ts";
import { queueNameIn } from "../fixtures/queue-name.ts";
import { tempFolder } from "../fixtures/temp-folder.ts";

const SOUND = fileURLToPath(new URL("../fixtures/hub-folder", import.meta.url));
/** Copies differ in what they hold and not in their name, which is the queue's. */
const NAME = "little";
const GRAPH = "onnx/model.onnx";
type Spoil = (folder: string) => Promise<void>;

/** Changes the graph's bytes, taken as text of one byte a character. */
function graphWith(change: (bytes: string) => string): Spoil {
  return async (folder) => {
    const path = join(folder, GRAPH);
    const before = await readFile(path, "latin1");
    const after = change(before);
    expect(after).not.toBe(before);
    expect(after.length).toBe(before.length);
    await writeFile(path, after, "latin1");
  };
}

function configured(changed: Readonly<Record<string, unknown>>): Spoil {
  return async (folder) => {
    const path = join(folder, "config.json");
    await writeFile(path, JSON.stringify({ ...JSON.parse(await readFile(path, "utf8")), ...changed }));
  };
}

/** A manifest that knows the graph's digest, and one bit of the graph turned. */
async function turnBit(folder: string): Promise<void> {
  const graph = await readFile(join(folder, GRAPH));
  const sha256 = createHash("sha256").update(graph).digest("hex");
  const weights = { fp32: [{ path: GRAPH, bytes: graph.length, sha256 }] };
  await writeFile(join(folder, "manifest.json"), JSON.stringify({ ...describeFolder(folder), weights }));
  graph[graph.length >> 1]! ^= 1;
  await writeFile(join(folder, GRAPH), graph);
}

const SPOILT: Record<string, [spoil: Spoil, message: RegExp, cure: RegExp]> = {
  "an opset that is too new": [
    // The file ends with the opset, 17.
    graphWith((bytes) => bytes.slice(0, -1) + String.fromCharCode(99)),
    /cannot load .*: ONNX Runtime .*Opset 99 .* till opset \d+/,
    /newer than this runtime: export it with opset 17/,
  ],
  "an operator that the runtime lacks": [
    graphWith((bytes) => bytes.replaceAll("Tanh", "Tanz")),
    /cannot load .*: .*No Op registered for Tanz/,
    /operator that this runtime lacks: .*models export/,
  ],
  "a graph with another digest": [
    turnBit,
    /with sha256 [0-9a-f]{64}; its manifest says \d+ bytes, [0-9a-f]{64}/,
    /damaged or of another revision/,
  ],
  "a graph without the head's output": [
    graphWith((bytes) => bytes.replaceAll("last_hidden_state", "last_hidden_stale")),
    /outputs last_hidden_stale; none of them is last_hidden_state, the dense head/,
    /manifest\.json, or export/,
  ],
  "a tokenizer with ids beyond the embedding table": [
    configured({ vocab_size: 50 }),
    /makes 64 ids; the embedding table of model little has 50/,
    /install the model again/,
  ],
  "vectors of another width": [
    configured({ hidden_size: 64 }),
    /last_hidden_state of .* is 32 wide; .* says 64/,
    /manifest\.json, or export/,
  ],
};

async function copyOf(): Promise<string> {
  const folder = join(await tempFolder(), NAME);
  await mkdir(folder);
  await cp(SOUND, folder, { recursive: true });
  return folder;
}

test("each refused model leaves the queue as it was, and a sound one then empties it", async () => {
  const out = await tempFolder();
  const corpus = join(out, "corpus.jsonl");
  await writeFile(corpus, '{"id":"a","text":"w7 w9"}\n');
  const fleet = randomUUID();
  const common = ["--out", join(out, "out"), "--redis", inject("redisUrl"), "--fleet", fleet, "--log-level", "silent"];
  const planned = ["--run", "r", "--heads", "dense", "--model", await copyOf()];
  const tooLong = await cli(["enqueue", corpus, ...common, ...planned, "--max-tokens", "67"]);
  expect(tooLong).toMatchObject({ code: 2, stderr: expect.stringMatching(/67 is more than .*\n {2}use at most 66/) });
  const enqueued = await cli(["enqueue", corpus, ...common, ...planned, "--max-tokens", "66"]);
  expect(enqueued.code, enqueued.stderr).toBe(0);

  const work = (model: string) => cli(["work", ...common, "--model", model, "--threads", "1", "--exit-when-done"]);
  const refusals = Object.entries(SPOILT).map(async ([name, [spoil, message, cure]]) => {
    const folder = await copyOf();
    await spoil(folder);
    const { code, stderr } = await work(folder);
    expect(code, name).toBe(1);
    expect(stderr, name).toMatch(
      new RegExp(`^error: [^\\n]*${message.source}[^\\n]*\\n {2}[^\\n]*${cure.source}[^\\n]*\\n$`),
    );
  });
  await Promise.all(refusals);
  const redis = connectRedis(inject("redisUrl"));
  const queue = new Queue(await queueNameIn(join(out, "out"), fleet, NAME), {
    connection: redis,
    prefix: QUEUE_PREFIX,
  });
  const [job] = await queue.getJobs(["prioritized"]);
  expect(job).toMatchObject({ name: "shard", attemptsStarted: 0 });
  expect(job!.processedOn).toBeUndefined();
  expect(await work(await copyOf())).toMatchObject({ code: 0, stderr: "" });
  expect(await queue.getJobCounts("prioritized", "wait", "active", "failed")).toMatchObject({
    prioritized: 0,
    failed: 0,
  });
  await queue.close();
  redis.disconnect();
});
