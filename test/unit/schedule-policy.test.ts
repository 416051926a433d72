/** What a schedule may read: everything with a signature, what the process was started with without one. */
import { mkdir, mkdtemp, realpath, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, expect, test } from "vitest";
import { allowedInputs } from "../../src/adapters/allowed-inputs.ts";
import { listInput } from "../../producers/sources/objects.ts";
import { SchedulePolicy } from "../../src/control/schedules/policy.ts";
import { isSignedWith, signSchedule } from "../../src/control/schedules/signature.ts";
import type { S3Bucket } from "../../src/adapters/s3/s3-source.ts";
import { type Schedule, scheduleOptionsSchema, scheduleSchema } from "../../src/core/schedule.ts";
import { PLAN_NAMES } from "../../src/fleet/settings.ts";

const SECRET = "a secret of this test";
const schedule: Schedule = {
  version: 1,
  name: "n",
  createdAt: "2026-11-24T02:00:00.000Z",
  cron: "0 2 * * *",
  tz: "UTC",
  overlapPolicy: "wait",
  webhook: null,
  since: null,
  inputs: ["/etc/shadow"],
  options: { keepText: true, heads: ["dense"] },
};
let folder = "";

beforeAll(async () => {
  folder = await realpath(await mkdtemp(join(tmpdir(), "embedfleet-policy-")));
  for (const name of ["open/docs", "open-not", "closed", "odd[1]"])
    await mkdir(join(folder, name), { recursive: true });
  for (const name of ["open/a.jsonl", "open/docs/b.jsonl", "open-not/c.jsonl", "closed/d.jsonl", "odd[1]/e.jsonl"])
    await writeFile(join(folder, name), "{}\n");
  await symlink(join(folder, "closed"), join(folder, "open/way-out"));
  await symlink(join(folder, "closed/d.jsonl"), join(folder, "open/way-out.jsonl"));
  await symlink(join(folder, "open/docs"), join(folder, "way-in"));
  return () => rm(folder, { recursive: true, force: true });
});

function policy(inputs: string[], secret: string | null = SECRET): SchedulePolicy {
  return new SchedulePolicy({ secret: async () => secret, allowedInputs, inputs, models: "/models", webhookHosts: [] });
}

test("a signed schedule may read anything; one that was changed, or signed with another secret, may not", async () => {
  const signed = signSchedule(schedule, SECRET);
  expect(await policy([]).whyRefused(signed)).toBeNull();
  const reordered = Object.fromEntries(Object.entries(signed).toReversed()) as Schedule;
  expect(await policy([]).whyRefused(reordered)).toBeNull();
  for (const forged of [
    { ...signed, inputs: ["/etc/passwd"] },
    { ...signed, name: "m" },
    { ...signed, options: {} },
    { ...signed, webhook: "https://elsewhere.example/" },
    signSchedule(schedule, `${SECRET}!`),
  ]) {
    expect(isSignedWith(forged, SECRET)).toBe(false);
    expect(await policy([]).whyRefused(forged)).toContain("is not signed with the secret of this process");
  }
  const unsigned = await policy([]).whyRefused(schedule);
  for (const words of ["the schedule n is not signed", "EMBEDFLEET_SCHEDULE_SECRET", "--schedule-inputs"])
    expect(unsigned).toContain(words);
  expect(await policy([], null).whyRefused(signed)).not.toBeNull();
});

test("files below what is allowed are read, whatever way leads there, and no way leads out", async () => {
  const at = (name: string): string => join(folder, name);
  const isAllowed = (input: string, allowed: string): Promise<boolean> =>
    allowedInputs([input], [allowed]).then((outcome) => "inputs" in outcome);
  for (const input of [
    "open",
    "open/",
    "open/a.jsonl",
    "open/docs",
    "open/**/*.jsonl",
    "open/docs/*",
    "closed/../open/docs",
  ])
    expect(await isAllowed(at(input), at("open")), input).toBe(true);
  for (const input of [
    "",
    "open-not",
    "open-not/c.jsonl",
    "op*/c.jsonl",
    "closed/d.jsonl",
    "open/../closed/d.jsonl",
    "open/way-out",
    "open/way-out/d.jsonl",
    "open/way-out.jsonl",
    "open/way-out/*.jsonl",
    "open/../*/d.jsonl",
    "open/not-there",
    "open\0/../closed",
  ])
    expect(await isAllowed(`${folder}/${input}`, at("open")), input).toBe(false);
  expect(await allowedInputs([at("way-in")], [at("open")])).toEqual({ inputs: [at("open/docs")] });
  expect(await isAllowed(at("way-in/b.jsonl"), at("way-in"))).toBe(true);
  expect(await isAllowed(at("odd[1]/e.jsonl"), at("odd[1]"))).toBe(true);
  expect(await isAllowed(at("odd[1]/*.jsonl"), at("odd[1]"))).toBe(false);
  expect(await isAllowed(at("open/docs/b.jsonl"), at("*/docs"))).toBe(true);
  expect(await isAllowed(at("open/a.jsonl"), at("*/docs"))).toBe(false);
  expect(await isAllowed(at("open/a.jsonl"), `${at("open")}/**`)).toBe(true);
  expect(await isAllowed("-", "/")).toBe(false);
});

test.each([
  ["s3://bucket/a", true],
  ["S3://bucket/a/", true],
  ["s3://bucket/a/b.jsonl", true],
  ["s3://bucket/a/**/*.jsonl", true],
  ["s3://bucket/ab", false],
  ["s3://bucket/a*", false],
  ["s3://bucket/a*/x", false],
  ["s3://bucket/", false],
  ["s3://bucket", false],
  ["s3://bucket/a/../b", false],
  ["s3://bucket//a", false],
  ["s3://bucket2/a", false],
  ["s3://bucket/@(a|b)/x", false],
  ["s3:/bucket/a", false],
  ["/s3:/bucket/a", false],
])("of a bucket's prefix, compared part by part, %s is allowed: %s", async (input, isAllowed) => {
  const asked = await allowedInputs([input], ["s3://bucket/a/"]);
  expect(asked).toMatchObject(isAllowed ? { inputs: [input] } : { refused: input });
});

test("what is allowed is what is read: a pattern in a bucket reads nothing beside the folder that it names", async () => {
  const keys = ["pub+lic/a.jsonl", "public/b.jsonl", "pub/c.jsonl", "secret/d.jsonl"];
  const bucket = {
    url: "s3://bucket",
    async *list(prefix: string) {
      for (const key of keys) if (key.startsWith(prefix)) yield { key, bytes: 1, etag: key };
    },
  } as unknown as S3Bucket;
  for (const pattern of ["pub+lic/**", "!pub+lic/**", "pub+lic/*.jsonl"]) {
    const read: string[] = [];
    const listing = listInput(`s3://bucket/${pattern}`, {
      format: "auto",
      stdin: process.stdin,
      bucket: async () => bucket,
    });
    for await (const listed of listing) if (listed.kind === "object") read.push(listed.object.name);
    expect(read.filter((name) => name !== "s3://bucket/pub+lic/a.jsonl")).toEqual([]);
  }
});

test("without a signature a model is one of the process's own", async () => {
  const open = policy([folder]);
  const asked = (options: Schedule["options"]): Promise<string | null> =>
    open.whyRefused({ ...schedule, inputs: [folder], options });
  expect(await asked({ model: "mini", models: "/models" })).toBeNull();
  for (const options of [{ model: "/tmp/model" }, { model: "../model" }, { model: ".." }, { models: "/tmp" }])
    expect(await asked(options)).toContain("names a folder of models");
});

test("a schedule has the options of a plan, and none of the process", () => {
  expect(Object.keys(scheduleOptionsSchema.shape).toSorted()).toEqual([...PLAN_NAMES].toSorted());
  for (const options of [
    { s3Endpoint: "http://169.254.169.254" },
    { s3Region: "x" },
    { metricsPush: "http://127.0.0.1:9091" },
    { metricsPort: 1 },
    { out: "file:///elsewhere" },
    { redis: "redis://elsewhere" },
    { logLevel: "silent" },
    { unsafeStore: true },
    { producerThreads: 1000 },
    { distributed: true },
    { since: "x" },
    { maxTokens: "8192" },
    { maxTokens: -1 },
    { heads: [] },
    { sample: 2 },
  ])
    expect(scheduleSchema.safeParse({ ...schedule, options }).success, JSON.stringify(options)).toBe(false);
  for (const webhook of ["ftp://x/", "file:///etc/passwd", "javascript:alert(1)", "x"])
    expect(scheduleSchema.safeParse({ ...schedule, webhook }).success, webhook).toBe(false);
});

test("links within the inputs of an unsigned schedule stay within the same places", async () => {
  expect(await policy(["/data"]).linksBelow(schedule)).toEqual(["/data"]);
  expect(await policy(["/data"]).linksBelow(signSchedule(schedule, SECRET))).toBeUndefined();
});
