/** When a device counts as hung. */
import { expect, test } from "vitest";
import type { BatchReport } from "../../src/core/batch.ts";
import type { Embedder } from "../../src/core/ports.ts";
import { Heartbeat } from "../../src/core/heartbeat.ts";
import { WatchedEmbedder } from "../../workers/watched-embedder.ts";

const report: BatchReport = { startedAtMs: 0, finishedAtMs: 1 };
const MAX_SILENT_MS = 50;

/** Answers when told to, in order, as a device does. */
class SlowDevice implements Embedder {
  readonly device = "slow";
  readonly answers: (() => void)[] = [];

  paddedLength(longest: number): number {
    return longest;
  }

  embed(): Promise<BatchReport> {
    return new Promise((resolve) => this.answers.push(() => resolve(report)));
  }

  async close(): Promise<void> {}
}

function watched(): { device: SlowDevice; embedder: WatchedEmbedder; heartbeat: Heartbeat } {
  const device = new SlowDevice();
  const heartbeat = new Heartbeat({ maxSilentMs: MAX_SILENT_MS });
  return { device, heartbeat, embedder: new WatchedEmbedder({ embedder: device, heartbeat }) };
}

function holdUp(durationMs: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, durationMs);
}

test("one that gives no answer is given up with every batch it has, for good", async () => {
  const { embedder, heartbeat } = watched();
  const batches = [embedder.embed({ rows: [] }), embedder.embed({ rows: [] })];
  for (const { status, reason } of (await Promise.allSettled(batches)) as PromiseRejectedResult[]) {
    expect(status).toBe("rejected");
    expect(reason).toMatchObject({
      code: "inference_hung",
      message: expect.stringContaining("not answered for 0.05 s"),
    });
  }
  expect(heartbeat.isAlive).toBe(false);
  await expect(embedder.embed({ rows: [] })).rejects.toMatchObject({ code: "inference_hung" });
});

test("one that answers batch after batch may be busy for ever", async () => {
  const { device, embedder, heartbeat } = watched();
  let next = embedder.embed({ rows: [] });
  for (let batches = 0; batches < 6; batches++) {
    const current = next;
    next = embedder.embed({ rows: [] });
    await new Promise((resolve) => setTimeout(resolve, MAX_SILENT_MS / 4));
    device.answers.shift()!();
    expect(await current).toBe(report);
  }
  device.answers.shift()!();
  await next;
  heartbeat.loopTurned();
  expect(heartbeat.isAlive).toBe(true);
});

test("an answer that lies ready when a held-up thread comes back is taken", async () => {
  const { device, embedder } = watched();
  const batch = embedder.embed({ rows: [] });
  setImmediate(() => device.answers[0]!());
  holdUp(3 * MAX_SILENT_MS);
  expect(await batch).toBe(report);
});

test("rest is not silence", async () => {
  const { heartbeat } = watched();
  holdUp(MAX_SILENT_MS / 5);
  heartbeat.loopTurned();
  expect(heartbeat.isAlive).toBe(true);
  holdUp(2 * MAX_SILENT_MS);
  expect(heartbeat.isAlive).toBe(false);
});
