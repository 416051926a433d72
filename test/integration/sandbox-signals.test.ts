/** Ctrl-C and SIGTERM reach a sandbox as they reach its worker, and no row is at fault for that. */
import { readdir, readFile } from "node:fs/promises";
import { expect, onTestFinished, test } from "vitest";
import { SandboxEmbedder } from "../../models/onnx/sandbox.ts";
import { rowsOf, shardOf } from "../conformance/embedder.suite.ts";
import { openMini } from "../fixtures/mini.ts";

const model = await openMini();

/** The only child of this process. */
async function childPid(): Promise<number> {
  const tasks = await readdir("/proc/self/task");
  const children = await Promise.all(tasks.map((task) => readFile(`/proc/self/task/${task}/children`, "utf8")));
  const pids = children.join(" ").split(" ").filter(Boolean).map(Number);
  expect(pids).toHaveLength(1);
  return pids[0]!;
}

test.each([
  ["SIGINT", "worker_failed"],
  ["SIGTERM", "worker_failed"],
  ["SIGKILL", "inference_crashed"],
] as const)("a batch that %s ends has failed by %s, and the next one is computed", async (signal, code) => {
  const sandbox = new SandboxEmbedder({ model, threads: 1, maxBatchMs: 60_000 });
  onTestFinished(() => sandbox.close());
  const embed = (): Promise<unknown> => sandbox.embed({ rows: rowsOf(shardOf([3])) });
  await embed();
  const pid = await childPid();
  process.kill(pid, "SIGSTOP");
  const stopped = embed();
  process.kill(pid, signal);
  process.kill(pid, "SIGCONT");
  await expect(stopped).rejects.toMatchObject({ code, message: expect.stringContaining(signal) as string });
  await embed();
});
