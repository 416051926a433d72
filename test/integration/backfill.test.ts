/** Nightly runs on a real Redis, with the test's own clock: one run a tick, whatever happens. */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { Redis } from "ioredis";
import { expect, inject, onTestFinished, test } from "vitest";
import { isSigned } from "../../src/control/schedules/webhook.ts";
import { FleetError } from "../../src/core/errors.ts";
import { compactRun } from "../../src/run/compact.ts";
import { acceptRun } from "../../src/run/hold.ts";
import { sealRun } from "../../src/run/seal.ts";
import { DEFAULT_GUARDS } from "../../src/core/guards.ts";
import { corpus, DAY_MS, HOUR_MS, NEXT, Night, NIGHT, RUN, SECRET } from "../fixtures/night.ts";
import { effectiveRows, runAll, sorted } from "../fixtures/pretend-fleet.ts";
import { ScriptedStore } from "../fixtures/scripted-store.ts";

const redisUrl = inject("redisUrl");

test("two control processes that are told of one tick make one run", async () => {
  const night = new Night();
  await night.add();
  night.nowMs = NIGHT;
  const outcomes = await Promise.all([night.control().tick(night.tick()), night.control().tick(night.tick())]);
  expect(outcomes).toEqual([{ kind: "done" }, { kind: "done" }]);
  expect(new Set(night.starts)).toEqual(new Set([`${RUN} null`]));
  const runs = [...night.objects.keys()].filter((key) => key.endsWith("/run.json"));
  expect(runs).toEqual([`runs/${RUN}/run.json`]);
  await night.finish(RUN);
  expect(await night.view()).toMatchObject({ lastRun: RUN, lastState: "started", nextAt: "2040-11-25T00:00:00.000Z" });
  const again = await night.control().tick(night.tick());
  expect([again, night.starts.length <= 2]).toEqual([{ kind: "done" }, true]);
});

test("each run builds on the one before, in its compacted form where there is one", async () => {
  const night = new Night();
  await night.add();
  night.nowMs = NIGHT;
  await night.control().tick(night.tick());
  await night.finish(RUN);
  // Another corpus of the same store is nobody's base.
  await runAll(night.store, { run: "elsewhere", corpus: [["x", "y"]] });
  night.corpus = [...corpus.slice(1), ["new", "text"]];
  night.nowMs = NIGHT + DAY_MS;
  await night.control().tick(night.tick(NIGHT + DAY_MS));
  await night.finish(NEXT, RUN);
  await compactRun({ store: night.store, run: NEXT });
  night.nowMs = NIGHT + 2 * DAY_MS;
  await night.control().tick(night.tick(NIGHT + 2 * DAY_MS));
  expect(night.starts).toEqual([`${RUN} null`, `${NEXT} ${RUN}`, `n-20401126T000000Z ${NEXT}-full`]);
  await night.finish("n-20401126T000000Z", `${NEXT}-full`);
  const scratch = new ScriptedStore();
  await runAll(scratch, { run: "full", corpus: night.corpus });
  expect(sorted(await effectiveRows(night.store, "n-20401126T000000Z"))).toEqual(
    sorted(await effectiveRows(scratch, "full")),
  );
});

test("a night whose corpus is gone is held, says so, and keeps the next one waiting until it is accepted", async () => {
  const night = new Night();
  night.guards = DEFAULT_GUARDS;
  await night.add();
  const control = night.control();
  night.nowMs = NIGHT;
  await control.tick(night.tick());
  await night.finish(RUN);
  night.corpus = [];
  night.nowMs = NIGHT + DAY_MS;
  await control.tick(night.tick(NIGHT + DAY_MS));
  const why = "12 of the base's 12 documents are no longer in the corpus";
  expect(await night.view()).toMatchObject({ lastState: "held", problem: expect.stringContaining(why) });
  night.nowMs = NIGHT + 2 * DAY_MS;
  expect(await control.tick(night.tick(NIGHT + 2 * DAY_MS))).toMatchObject({ kind: "later" });
  expect(await night.view()).toMatchObject({ lastState: "waiting", problem: expect.stringContaining(why) });
  await acceptRun(night.store, NEXT);
  expect(await sealRun({ store: night.store, run: NEXT, keepStaging: false })).toMatchObject({ kind: "sealed" });
  expect(await control.tick(night.tick(NIGHT + 2 * DAY_MS))).toEqual({ kind: "done" });
});

test.each([
  ["wait", { kind: "later", waitMs: HOUR_MS }, "waiting"],
  ["skip", { kind: "done" }, "skipped"],
] as const)("while a run is going, the next tick has to %s, and that can be seen", async (policy, outcome, state) => {
  const night = new Night();
  await night.add(policy);
  const control = night.control();
  night.nowMs = NIGHT;
  await control.tick(night.tick());
  night.nowMs = NIGHT + DAY_MS;
  expect(await control.tick(night.tick(NIGHT + DAY_MS))).toEqual(outcome);
  const problem = `${state}: run ${RUN} is still going`;
  expect(await night.view()).toMatchObject({ lastState: state, problem, lastRun: RUN });
  await night.finish(RUN);
  expect(await control.tick(night.tick(NIGHT + DAY_MS))).toEqual({ kind: "done" });
  expect(night.starts.slice(1)).toEqual(policy === "wait" ? [`${NEXT} ${RUN}`] : []);
});

test("a tick that waited over others stands for all of them", async () => {
  const night = new Night();
  await night.add("wait");
  const control = night.control();
  night.nowMs = NIGHT;
  await control.tick(night.tick());
  for (const days of [1, 2, 3]) {
    night.nowMs = NIGHT + days * DAY_MS;
    await control.tick(night.tick(night.nowMs));
  }
  await night.finish(RUN);
  for (const days of [1, 2, 3]) expect(await control.tick(night.tick(NIGHT + days * DAY_MS))).toEqual({ kind: "done" });
  expect(night.starts).toEqual([`${RUN} null`, `n-20401127T000000Z ${RUN}`]);
});

test("ticks missed while nothing ran come to one; a wiped Redis is filled again from the store", async () => {
  const night = new Night();
  await night.add();
  const redis = new Redis(redisUrl);
  onTestFinished(() => redis.disconnect());
  const keys = await redis.keys(`embedfleet:${night.fleet}--backfill*`);
  expect(keys.length).toBeGreaterThan(0);
  await redis.del(keys);
  night.nowMs = NIGHT + 5 * DAY_MS + HOUR_MS;
  const control = night.control();
  const queue = night.queue();
  expect(await queue.kept()).toEqual([]);
  await control.look();
  await control.look();
  expect(await queue.kept()).toEqual(["n"]);
  // BullMQ's own next tick is by the real clock.
  const added = (await queue.pending(night.nowMs)).filter(({ slotMs }) => slotMs > NIGHT + DAY_MS);
  expect(added).toEqual([night.tick(NIGHT + 5 * DAY_MS)]);
});

test("a tick that is due and waits in Redis is not taken away by a restart", async () => {
  const night = new Night();
  const second = { cron: "* * * * * *", tz: "UTC" };
  night.nowMs = Date.now();
  const service = night.service();
  await service.add({
    name: "n",
    ...second,
    overlapPolicy: "wait",
    webhook: null,
    since: null,
    inputs: ["/c"],
    options: {},
  });
  const queue = night.queue();
  // Well after the first tick was due, a control process comes up.
  await expect.poll(() => queue.pending(Date.now()), { timeout: 10_000 }).toHaveLength(1);
  night.nowMs = Date.now();
  const started = new Promise<string>((resolve) => {
    const control = night.control(async ({ run }) => resolve(run), queue);
    void control.start();
  });
  expect(await started).toMatch(/^n-\d{8}T\d{6}Z$/);
});

test("a control process that dies while it plans leaves the run to another", async () => {
  const night = new Night();
  await night.add();
  night.nowMs = NIGHT;
  const dying = night.control(async () => {
    throw new FleetError("store_unavailable", "killed");
  });
  await expect(dying.tick(night.tick())).rejects.toMatchObject({ code: "store_unavailable" });
  // Its Redis is wiped as well: what was begun stands in the store.
  const redis = new Redis(redisUrl);
  onTestFinished(() => redis.disconnect());
  await redis.del(await redis.keys(`embedfleet:${night.fleet}--backfill*`));
  const control = night.control();
  await control.look();
  const [lost] = await night.queue().pending(night.nowMs);
  expect(lost).toMatchObject({ slotMs: NIGHT });
  expect(await control.tick(lost!)).toEqual({ kind: "done" });
  expect(night.starts).toEqual([`${RUN} null`]);
});

test("paused schedules rest, what was due meanwhile is not made up for, and a trigger still works", async () => {
  const night = new Night();
  await night.add();
  const service = night.service();
  await service.pause("n");
  expect(await night.view()).toMatchObject({ isPaused: true, nextAt: null });
  night.nowMs = NIGHT + HOUR_MS;
  const control = night.control();
  await control.look();
  const queue = night.queue();
  expect([await queue.kept(), await queue.pending(night.nowMs)]).toEqual([[], []]);
  expect(await control.tick(night.tick())).toEqual({ kind: "done" });
  expect(night.starts).toEqual([]);
  const { run } = await service.trigger({ name: "n" });
  const [tick] = await queue.pending(night.nowMs);
  await control.tick(tick!);
  expect(night.starts).toEqual([`${run} null`]);
  await service.resume("n");
  expect(await queue.kept()).toEqual(["n"]);
});

test("success and failure are told once, signed; the secret is in no object and no key", async () => {
  const told: { event: string; run: string; ok: boolean }[] = [];
  let status = 500;
  const server = createServer((request, response) => {
    let body = "";
    request.on("data", (chunk: Buffer) => (body += chunk.toString()));
    request.on("end", () => {
      const signature = String(request.headers["x-embedfleet-signature"]);
      const ok = isSigned({ secret: SECRET, body, signature, nowMs: night.nowMs, maxAgeMs: 1000 });
      if (status === 200) told.push({ event: JSON.parse(body).event, run: JSON.parse(body).run, ok });
      response.writeHead(status).end();
    });
  });
  await new Promise<void>((ready) => server.listen(0, "127.0.0.1", ready));
  onTestFinished(() => void server.close());
  const night = new Night();
  await night.add("wait", `http://127.0.0.1:${(server.address() as AddressInfo).port}/`);
  const control = night.control();
  night.nowMs = NIGHT;
  await control.tick(night.tick());
  await control.look();
  await night.finish(RUN);
  await control.look();
  expect(told).toEqual([]);
  status = 200;
  await control.look();
  await control.look();
  expect(told).toEqual([{ event: "run.sealed", run: RUN, ok: true }]);
  night.nowMs = NIGHT + DAY_MS;
  await control.tick(night.tick(NIGHT + DAY_MS));
  night.failure = "shards failed: w000000-s0000: it crashed";
  await control.look();
  await control.look();
  expect(told[1]).toEqual({ event: "run.failed", run: NEXT, ok: true });
  expect(told).toHaveLength(2);
  expect(await night.view()).toMatchObject({ lastState: "failed", problem: expect.stringContaining("it crashed") });
  const everything = [...night.objects].map(([key, body]) => key + Buffer.from(body).toString("latin1")).join();
  expect(everything).not.toContain(SECRET);
});

test("a corpus that cannot be read fails the tick and not the schedule", async () => {
  const night = new Night();
  await night.add();
  night.nowMs = NIGHT;
  const broken = night.control(async () => {
    throw new FleetError("source_unreadable", "the corpus /c cannot be read");
  });
  expect(await broken.tick(night.tick())).toMatchObject({ kind: "failed" });
  expect(await night.view()).toMatchObject({ problem: "failed: the corpus /c cannot be read" });
  night.nowMs = NIGHT + DAY_MS;
  await night.control().tick(night.tick(night.nowMs));
  expect(night.starts).toEqual([`${NEXT} null`]);
});

test("schedules are added once, and what is not there is a clear error", async () => {
  const night = new Night();
  await night.add();
  await expect(night.add()).rejects.toMatchObject({ code: "schedule_conflict" });
  const service = night.service();
  await expect(service.pause("m")).rejects.toMatchObject({ code: "schedule_unknown" });
  await service.remove("n");
  expect(await service.list()).toEqual([]);
  expect(await night.queue().kept()).toEqual([]);
});
