/** Nightly runs on a real Redis, with the test's own clock: one run a tick, whatever happens. */
import { randomUUID } from "node:crypto";
import { realpath } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { Redis } from "ioredis";
import { pino } from "pino";
import { expect, inject, onTestFinished, test } from "vitest";
import { BackfillDesk } from "../../producers/backfill/desk.ts";
import { SchedulePolicy } from "../../producers/backfill/policy.ts";
import { BackfillScheduler, type BackfillParams } from "../../producers/backfill/scheduler.ts";
import { isSigned } from "../../producers/backfill/webhook.ts";
import { ControlQueue } from "../../src/adapters/redis/control-queue.ts";
import type { OverlapPolicy } from "../../src/core/backfill.ts";
import { FleetError } from "../../src/core/errors.ts";
import { compactRun } from "../../src/run/compact.ts";
import { type Corpus, effectiveRows, plan, runAll, sorted } from "../fixtures/pretend-fleet.ts";
import { ScriptedStore } from "../fixtures/scripted-store.ts";
import { tempFolder } from "../fixtures/temp-folder.ts";

const redisUrl = inject("redisUrl");
const log = pino({ level: "silent" });
const HOUR_MS = 3_600_000;
/** Far from the real clock, by which BullMQ sets its own next tick. */
const NIGHT = Date.parse("2040-11-24T00:00:00Z");
const SECRET = "secret of the test";
const SCHEDULE_SECRET = "another secret of the test";
const corpus: Corpus = Array.from({ length: 12 }, (_, i) => [`d${i}`, `text ${i}`]);

type Start = BackfillParams["start"];

/** A store, a clock and a fleet's name, and any number of control processes on them. */
class Night {
  readonly objects = new Map<string, Uint8Array>();
  readonly store = new ScriptedStore({ objects: this.objects });
  readonly fleet = randomUUID();
  /** Every call to start a run, as `run since`. */
  readonly starts: string[] = [];
  corpus = corpus;
  failure: string | null = null;
  /** Whether who adds schedules knows the secret, and what control was started with. */
  isSigning = true;
  allowed = { inputs: [] as string[], webhookHosts: ["127.0.0.1"] };
  nowMs = NIGHT - 2 * HOUR_MS;

  queue(): ControlQueue {
    const queue = new ControlQueue({ redisUrl, fleet: this.fleet, log });
    onTestFinished(() => queue.close());
    return queue;
  }

  desk(): BackfillDesk {
    const secret = async () => (this.isSigning ? SCHEDULE_SECRET : null);
    return new BackfillDesk({ store: this.store, queue: this.queue(), secret, nowMs: () => this.nowMs });
  }

  control(start: Start = (params) => this.plan(params), queue = this.queue()): BackfillScheduler {
    const scheduler = new BackfillScheduler({
      store: this.store,
      queue,
      turn: { take: async () => true },
      start,
      findFailure: async () => this.failure,
      policy: this.policy(),
      webhookSecret: SECRET,
      intervalMs: HOUR_MS,
      nowMs: () => this.nowMs,
      log,
    });
    onTestFinished(() => scheduler.close());
    return scheduler;
  }

  policy(): SchedulePolicy {
    return new SchedulePolicy({ secret: async () => SCHEDULE_SECRET, ...this.allowed });
  }

  async plan({ run, since }: Parameters<Start>[0]): Promise<void> {
    this.starts.push(`${run} ${since}`);
    await plan(this.store, { run, corpus: this.corpus, ...(since !== null && { since }) });
  }

  /** The workers' part of a run that was planned. */
  async finish(run: string, since?: string): Promise<void> {
    await runAll(this.store, { run, corpus: this.corpus, ...(since !== undefined && { since }) });
  }

  async add(overlapPolicy: OverlapPolicy = "wait", webhook: string | null = null): Promise<void> {
    const when = { cron: "0 2 * * *", tz: "Europe/Helsinki" };
    await this.desk().add({ name: "n", ...when, overlapPolicy, webhook, since: null, inputs: ["/c"], options: {} });
  }

  tick(slotMs = NIGHT) {
    return { schedule: "n", slotMs, isTriggered: false };
  }

  async view() {
    return (await this.desk().list())[0]!;
  }
}

const RUN = "n-20401124T000000Z";
const NEXT = "n-20401125T000000Z";
const DAY_MS = 24 * HOUR_MS;

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
  const desk = night.desk();
  await desk.add({
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
  const desk = night.desk();
  await desk.pause("n");
  expect(await night.view()).toMatchObject({ isPaused: true, nextAt: null });
  night.nowMs = NIGHT + HOUR_MS;
  const control = night.control();
  await control.look();
  const queue = night.queue();
  expect([await queue.kept(), await queue.pending(night.nowMs)]).toEqual([[], []]);
  expect(await control.tick(night.tick())).toEqual({ kind: "done" });
  expect(night.starts).toEqual([]);
  const { run } = await desk.trigger({ name: "n" });
  const [tick] = await queue.pending(night.nowMs);
  await control.tick(tick!);
  expect(night.starts).toEqual([`${run} null`]);
  await desk.resume("n");
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

/** Something that is told of every request. */
async function receiver(): Promise<{ readonly url: string; readonly requests: string[] }> {
  const requests: string[] = [];
  const server = createServer((request, response) => {
    requests.push(request.url ?? "");
    response.writeHead(204).end();
  });
  await new Promise<void>((ready) => server.listen(0, "127.0.0.1", ready));
  onTestFinished(() => void server.close());
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`, requests };
}

test("a schedule that is not signed is not run, says why, and runs once it is allowed or signed", async () => {
  const folder = await realpath(await tempFolder());
  const night = new Night();
  night.isSigning = false;
  await night.add();
  const record = JSON.parse(Buffer.from(night.objects.get("schedules/n.json")!).toString()) as { inputs: string[] };
  night.objects.set("schedules/n.json", Buffer.from(JSON.stringify({ ...record, inputs: [folder] })));
  expect(await night.view()).toMatchObject({ problem: expect.stringContaining("not signed") });
  night.nowMs = NIGHT;
  const refused = { kind: "failed", reason: expect.stringMatching(/the schedule n is not signed.*--schedule-inputs/) };
  expect(await night.control().tick(night.tick())).toMatchObject(refused);
  expect(night.starts).toEqual([]);
  expect(await night.view()).toMatchObject({ lastState: "failed", problem: expect.stringContaining("is not signed") });
  night.allowed = { inputs: [folder], webhookHosts: [] };
  night.nowMs = NIGHT + DAY_MS;
  expect(await night.control().tick(night.tick(night.nowMs))).toEqual({ kind: "done" });
  night.allowed = { inputs: [], webhookHosts: [] };
  night.isSigning = true;
  await night.finish(NEXT);
  await night.desk().remove("n");
  await night.add();
  night.nowMs = NIGHT + 2 * DAY_MS;
  expect(await night.control().tick(night.tick(night.nowMs))).toEqual({ kind: "done" });
  expect(night.starts).toEqual([`${NEXT} null`, `n-20401126T000000Z ${NEXT}`]);
});

test("who can write a schedule and its ticks into the store sends control to no address of the network", async () => {
  const { url, requests } = await receiver();
  const night = new Night();
  night.isSigning = false;
  await night.add("wait", url);
  const tick = { version: 1, run: RUN, at: new Date(NIGHT).toISOString() };
  for (const event of ["started", "failed"])
    night.objects.set(`schedules/n/ticks/20401124T000000Z/${event}.json`, Buffer.from(JSON.stringify(tick)));
  night.nowMs = NIGHT + HOUR_MS;
  night.allowed = { inputs: [], webhookHosts: [] };
  await night.control().look();
  night.allowed = { inputs: [], webhookHosts: ["localhost", "127.0.0.1:1"] };
  await night.control().look();
  expect(requests).toEqual([]);
  night.allowed = { inputs: [], webhookHosts: ["127.0.0.1"] };
  await night.control().look();
  expect(requests).toEqual(["/"]);
});

test("a damaged object costs what it describes: other ticks, other schedules and webhooks go on", async () => {
  const { url, requests } = await receiver();
  const night = new Night();
  await night.add("wait", url);
  const torn = Buffer.from("{");
  for (const key of ["schedules/torn.json", "schedules/\u001b[2J.json", "schedules/n/ticks/20409999T999999Z/started.json"])
    night.objects.set(key, torn);
  night.nowMs = NIGHT;
  const control = night.control();
  await control.tick(night.tick());
  await night.finish(RUN);
  // Of the first night everything is damaged afterwards: the next builds on what is left, which is nothing.
  for (const key of [`runs/${RUN}/manifest.json`, `runs/${RUN}/plan/closed.json`]) night.objects.set(key, torn);
  night.nowMs = NIGHT + DAY_MS;
  expect(await control.tick(night.tick(night.nowMs))).toEqual({ kind: "done" });
  expect(night.starts).toEqual([`${RUN} null`, `${NEXT} null`]);
  night.failure = "shards failed";
  await control.look();
  expect(requests).toEqual(["/", "/"]);
  // The third night's beginning cannot be read: that night fails, and the fourth is made.
  const third = night.tick(NIGHT + 2 * DAY_MS);
  night.objects.set("schedules/n/ticks/20401126T000000Z/started.json", torn);
  night.nowMs = third.slotMs;
  expect(await control.tick(third)).toMatchObject({ kind: "failed" });
  night.nowMs = NIGHT + 3 * DAY_MS;
  expect(await control.tick(night.tick(night.nowMs))).toEqual({ kind: "done" });
  expect(night.starts).toHaveLength(3);
  const views = await night.desk().list();
  expect(views.map(({ name, lastState }) => [name, lastState])).toEqual([
    ["\u001b[2J", "damaged"],
    ["n", "started"],
    ["torn", "damaged"],
  ]);
});

test("ticks that someone puts into Redis make no run of another time, and none of no schedule", async () => {
  const night = new Night();
  await night.add();
  night.nowMs = NIGHT;
  const control = night.control();
  const slots = [Number.NaN, Infinity, -1, 0, 1e300, NIGHT + 400 * DAY_MS, NIGHT + 0.5];
  const forged = [
    ...slots.map((slotMs) => ({ schedule: "n", slotMs, isTriggered: true })),
    ...["../n", "n/../n", "n/state", ""].map((schedule) => ({ schedule, slotMs: NIGHT, isTriggered: true })),
  ];
  for (const tick of forged) expect(await control.tick(tick), JSON.stringify(tick)).toMatchObject({ kind: "failed" });
  expect(night.starts).toEqual([]);
  expect([...night.objects.keys()]).toEqual(["schedules/n.json"]);
});

test("schedules are added once, and what is not there is a clear error", async () => {
  const night = new Night();
  await night.add();
  await expect(night.add()).rejects.toMatchObject({ code: "schedule_conflict" });
  const desk = night.desk();
  await expect(desk.pause("m")).rejects.toMatchObject({ code: "schedule_unknown" });
  await desk.remove("n");
  expect(await desk.list()).toEqual([]);
  expect(await night.queue().kept()).toEqual([]);
});
