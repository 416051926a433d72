/** Who may listen where, and what a token must be. */
import { expect, onTestFinished, test } from "vitest";
import { Access } from "../../src/telemetry/access.ts";
import { isLoopback } from "../../src/telemetry/listen.ts";
import { Metrics } from "../../src/telemetry/metrics.ts";
import { hungAfterMs, ProgressWatch, redisSilentAfterMs, serveMetrics } from "../../src/telemetry/serve-metrics.ts";

test.each(["0.0.0.0", "::", "10.1.2.3", "fleet.example", "127.0.0.1.example", "1270.0.0.1"])(
  "%s can be reached from elsewhere, so it needs a token",
  (host) => {
    expect(isLoopback(host)).toBe(false);
    expect(() => new Access({ host, token: undefined })).toThrow("no token is set");
    expect(new Access({ host, token: "a-good-long-token" }).token).toBe("a-good-long-token");
  },
);

test.each(["127.0.0.1", "127.8.8.8", "::1", "localhost"])("%s is this machine, and a token is made up", (host) => {
  expect(new Access({ host, token: undefined }).token).toMatch(/^[0-9a-f]{48}$/);
});

test("a token that can be guessed is refused anywhere", () => {
  expect(() => new Access({ host: "127.0.0.1", token: "abc" })).toThrow("can be guessed");
});

test("a worker's metrics beyond this machine are for who shows the token; its health is for everyone", async () => {
  const metrics = new Metrics({ role: "worker", version: "0" });
  const watch = new ProgressWatch({ hungAfterMs: hungAfterMs({}), redisSilentAfterMs: 60_000 });
  await expect(serveMetrics({ metrics, watch, host: "0.0.0.0", port: 0, token: undefined })).rejects.toThrow(
    "no token is set",
  );
  const token = "a-good-long-token";
  // On loopback, since nothing else is to be reached from a test; a token that is given is asked for there, too.
  const server = await serveMetrics({ metrics, watch, host: "127.0.0.1", port: 0, token });
  onTestFinished(() => server.close());
  const status = async (path: string, headers: Record<string, string> = {}): Promise<number> =>
    (await fetch(server.url + path, { headers })).status;
  expect(await status("/healthz")).toBe(200);
  expect(await status("/metrics")).toBe(401);
  expect(await status("/metrics", { authorization: "Bearer another-long-token" })).toBe(401);
  expect(await status("/metrics", { authorization: `Bearer ${token}` })).toBe(200);
});

test("a process hangs after ten minutes, or after a longer --max-batch-seconds and a minute, and health says so", async () => {
  expect(hungAfterMs({})).toBe(600_000);
  expect(hungAfterMs({ maxBatchMs: 5_000 })).toBe(600_000);
  expect(hungAfterMs({ maxBatchMs: 1_800_000 })).toBe(1_860_000);
  const metrics = new Metrics({ role: "worker", version: "0" });
  const watch = new ProgressWatch({ hungAfterMs: 0, redisSilentAfterMs: 60_000 });
  const server = await serveMetrics({ metrics, watch, host: "127.0.0.1", port: 0, token: undefined });
  onTestFinished(() => server.close());
  expect((await fetch(`${server.url}/healthz`)).status).toBe(503);
});

test("a process that reads a run's files back is alive; one whose lease is renewed need not be", async () => {
  const watch = new ProgressWatch({ hungAfterMs: 1000, redisSilentAfterMs: 60_000 });
  await expect.poll(() => watch.silentMs).toBeGreaterThan(200);
  const before = watch.silentMs;
  watch.observe({ kind: "leases", outcome: "renewed", count: 1 });
  expect(watch.silentMs).toBeGreaterThanOrEqual(before);
  watch.observe({ kind: "read-back", run: "night", files: 1, plannedFiles: 9 });
  expect(watch.silentMs).toBeLessThan(before);
});

test("a process whose Redis gives no answer for two locks is unhealthy, and one that has not asked it yet is not", async () => {
  expect(redisSilentAfterMs({ lockSeconds: 30 })).toBe(60_000);
  const metrics = new Metrics({ role: "worker", version: "0" });
  const watch = new ProgressWatch({ hungAfterMs: 600_000, redisSilentAfterMs: 100 });
  const server = await serveMetrics({ metrics, watch, host: "127.0.0.1", port: 0, token: undefined });
  onTestFinished(() => server.close());
  const health = async (): Promise<unknown> => {
    const answer = await fetch(`${server.url}/healthz`);
    return [answer.status, ((await answer.json()) as { status: string }).status];
  };
  expect(await health()).toEqual([200, "ok"]);
  watch.observe({ kind: "redis-answered" });
  await expect.poll(health).toEqual([503, "Redis does not answer"]);
});
