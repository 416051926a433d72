/** Nightly runs among people who can write to the store or to Redis, and among damaged objects. */
import { realpath } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { expect, onTestFinished, test } from "vitest";
import { DAY_MS, HOUR_MS, NEXT, Night, NIGHT, RUN } from "../fixtures/night.ts";
import { tempFolder } from "../fixtures/temp-folder.ts";

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
  await night.service().remove("n");
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
  for (const key of [
    "schedules/torn.json",
    "schedules/\u001b[2J.json",
    "schedules/n/ticks/20409999T999999Z/started.json",
  ])
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
  const views = await night.service().list();
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
