/** What answers in the place of an S3 server, or wrongly, is no empty store and no stored file. */
import { afterEach, beforeAll, afterAll, describe, expect, test } from "vitest";
import { openStore } from "../../src/adapters/open-store.ts";
import type { S3Options } from "../../src/adapters/s3/s3-client.ts";
import { S3Bucket } from "../../src/adapters/s3/s3-source.ts";
import type { ObjectStore } from "../../src/core/ports.ts";
import { FaultProxy, LOGIN_PAGE, type Page } from "../fixtures/fault-proxy.ts";

const ATTEMPTS = 3;
const S3 = { "x-amz-request-id": "tx1" };
const XML = { ...S3, "content-type": "application/xml" };
const TIME = { "last-modified": "Sat, 28 Nov 2026 14:00:00 GMT" };
const ETAG = '"5d41402abc4b2a76b9719d911017c592"';

let proxy: FaultProxy;
let store: ObjectStore;
let bucket: S3Bucket;
let asked = 0;
beforeAll(async () => {
  // Nothing listens behind it: each test answers by itself.
  proxy = await FaultProxy.start({ upstream: "http://127.0.0.1:9", random: Math.random });
  const credentials = { accessKeyId: "test", secretAccessKey: "test" };
  const s3: S3Options = { endpoint: proxy.url, region: "us-east-1", credentials, maxAttempts: ATTEMPTS, backoffMs: 1 };
  store = await openStore("s3://bucket/out", { s3 });
  bucket = new S3Bucket({ bucket: "bucket", options: s3 });
});
afterEach(() => void (asked = 0));
afterAll(async () => {
  await store.close();
  await bucket.close();
  await proxy.close();
});

/** @param pages One after the other, the last one for ever. */
function say(...pages: readonly Page[]): void {
  proxy.instead = () => pages[Math.min(asked++, pages.length - 1)]!;
}

function listing(
  inside: string,
  head = "<Name>bucket</Name><Prefix>out/data/</Prefix><IsTruncated>false</IsTruncated>",
): Page {
  return { headers: XML, body: `<?xml version="1.0"?><ListBucketResult>${head}${inside}</ListBucketResult>` };
}

function contents(key: string): string {
  return `<Contents><Key>${key}</Key><LastModified>2026-11-28T14:00:00.000Z</LastModified><ETag>&quot;e&quot;</ETag><Size>5</Size></Contents>`;
}

async function keysOf(items: AsyncIterable<{ readonly key: string }>): Promise<string[]> {
  const keys: string[] = [];
  for await (const { key } of items) keys.push(key);
  return keys;
}

const MORE = "<Name>bucket</Name><Prefix>out/data/</Prefix><IsTruncated>true</IsTruncated>";
const GOOD = listing(`<KeyCount>1</KeyCount>${contents("out/data/a")}`);

describe("a listing", () => {
  test.each<[string, Page, RegExp]>([
    ["that is an HTML page", LOGIN_PAGE, /HTML page/],
    [
      "that is an HTML page with S3's own headers",
      { ...LOGIN_PAGE, headers: { ...LOGIN_PAGE.headers, ...S3 } },
      /<!doctype/,
    ],
    ["that is empty", { headers: XML }, /empty body/],
    ["that is white space", { headers: XML, body: " \n" }, /empty body/],
    ["that is JSON", { headers: S3, body: "{}" }, /no ListBucketResult but "\{\}"/],
    ["that is another document", { headers: XML, body: "<Error><Code>InternalError</Code></Error>" }, /<Error>/],
    ["of another operation", { headers: XML, body: "<ListAllMyBucketsResult/>" }, /ListAllMyBuckets/],
    ["that is cut short", { headers: XML, body: GOOD.body!.slice(0, -30) }, /cut short/],
    ["of which only the beginning came", { headers: XML, body: "<ListBucketResult>" }, /cut short/],
    ["without any fields", listing("", ""), /without the bucket's name/],
    ["that does not say whether it goes on", listing("", "<Name>bucket</Name>"), /IsTruncated/],
    ["that goes on without a token", listing(contents("out/data/a"), MORE), /without a token/],
    ["whose token is empty", listing("<NextContinuationToken></NextContinuationToken>", MORE), /without a token/],
    [
      "of another prefix",
      listing("", "<Name>bucket</Name><Prefix>x</Prefix><IsTruncated>false</IsTruncated>"),
      /of the prefix x/,
    ],
    ["with a key outside the prefix", listing(contents("out/plan/a")), /out\/plan\/a, which does not begin/],
    ["with an object that has no key", listing("<Contents><Size>1</Size></Contents>"), /without a key/],
    [
      "with fewer objects than it counts",
      listing(`<KeyCount>2</KeyCount>${contents("out/data/a")}`),
      /2 objects with 1/,
    ],
    ["that counts objects and has none", listing("<KeyCount>1000</KeyCount>"), /1000 objects with 0/],
  ])("%s is asked for again, and then a fault of the store", async (_, page, message) => {
    say(page);
    const fault = { code: "store_unavailable", message: expect.stringMatching(message), cure: expect.any(String) };
    await expect(keysOf(store.list({ prefix: "data/" }))).rejects.toMatchObject(fault);
    expect(asked).toBe(ATTEMPTS);
    await expect(keysOf(bucket.list("out/data/"))).rejects.toMatchObject(fault);
  });

  test("whose token comes again does not go on for ever", async () => {
    say(listing("<NextContinuationToken>t</NextContinuationToken>", MORE));
    await expect(keysOf(store.list({ prefix: "data/" }))).rejects.toThrow(/token is that of an earlier page/);
    expect(asked).toBe(1 + ATTEMPTS);
  });

  test("whose page comes again is refused", async () => {
    const page = (token: string): Page =>
      listing(`${contents("out/data/a")}<NextContinuationToken>${token}</NextContinuationToken>`, MORE);
    say(page("t"), page("u"));
    await expect(keysOf(store.list({ prefix: "data/" }))).rejects.toMatchObject({ code: "store_refused" });
  });

  test("is whole after bad pages in between", async () => {
    const first = listing(`${contents("out/data/a")}<NextContinuationToken>t</NextContinuationToken>`, MORE);
    const empty = listing("<KeyCount>0</KeyCount><NextContinuationToken>u</NextContinuationToken>", MORE);
    const last = listing(contents("out/data/b"));
    say(LOGIN_PAGE, first, { headers: XML }, LOGIN_PAGE, empty, last);
    expect(await keysOf(store.list({ prefix: "data/" }))).toEqual(["data/a", "data/b"]);
  });

  test("may be empty, and may leave out its count", async () => {
    say(listing(""));
    expect(await keysOf(store.list({ prefix: "data/" }))).toEqual([]);
    say(listing("<KeyCount>0</KeyCount>"));
    expect(await keysOf(store.list({ prefix: "data/" }))).toEqual([]);
  });
});

const key = "data/a";
const body = Buffer.from("hello");
const CALLS: Readonly<Record<string, () => Promise<unknown>>> = {
  create: () => store.create({ key, body }),
  replace: () => store.replace({ key, body }),
  "replace of nothing": () => store.replace({ key, body, ifVersion: null }),
  "replace of a version": () => store.replace({ key, body, ifVersion: ETAG }),
  read: () => store.read({ key }),
  "read of a range": () => store.read({ key, range: { start: 0, end: 3 } }),
  "read of a version": () => store.readVersion({ key }),
  stat: () => store.stat({ key }),
  remove: () => store.remove({ key }),
  "look at a corpus object": () => bucket.find("out/data/a"),
};

describe("what is no S3 server", () => {
  test.each(Object.keys(CALLS))("is found by its page of status 200, at %s", async (name) => {
    say(LOGIN_PAGE);
    await expect(CALLS[name]!()).rejects.toMatchObject({
      code: "store_unavailable",
      message: expect.stringMatching(/HTML page/),
      cure: expect.stringMatching(/proxy/),
    });
    expect(asked).toBe(ATTEMPTS);
  });

  test.each(["create", "replace", "read", "stat", "read of a version", "look at a corpus object"])(
    "is found by an answer without an ETag, at %s",
    async (name) => {
      say({ headers: { "content-type": "text/plain", ...TIME }, body: name === "read" ? "hello" : "" });
      await expect(CALLS[name]!()).rejects.toMatchObject({
        code: "store_unavailable",
        message: expect.stringMatching(/ETag/),
      });
    },
  );

  test("has stored nothing when it answers a write with a request id alone", async () => {
    say({ headers: S3 });
    await expect(CALLS["create"]!()).rejects.toMatchObject({ code: "store_unavailable" });
  });

  test.each(["read", "read of a version", "stat", "look at a corpus object"])(
    "has no say in whether an object is there, at %s",
    async (name) => {
      say({ ...LOGIN_PAGE, status: 404 });
      await expect(CALLS[name]!()).rejects.toMatchObject({
        code: "store_unavailable",
        message: expect.stringMatching(/404/),
      });
    },
  );

  test("is not seen in a page of a corpus, nor in a missing object, on servers without request ids", async () => {
    const headers = { ...LOGIN_PAGE.headers, ...TIME, etag: ETAG, "content-length": "5" };
    say({ headers });
    expect(await bucket.find("out/data/a")).toEqual({ key: "out/data/a", bytes: 5, etag: ETAG });
    say({ status: 404 });
    expect(await bucket.find("out/data/a")).toBeNull();
    expect(await CALLS["stat"]!()).toBeNull();
  });

  test("may answer a while, until the server is back", async () => {
    say(LOGIN_PAGE, { headers: { ...S3, etag: ETAG } });
    expect(await CALLS["create"]!()).toBe("created");
    say(LOGIN_PAGE, { status: 404, headers: S3 });
    expect(await CALLS["stat"]!()).toBeNull();
  });
});

describe("a server's checksums", () => {
  const headers = { ...S3, ...TIME, etag: ETAG, "x-amz-checksum-crc32": "NhCmhg==" };

  test("of the whole object, sent with a part of it, are not held against the part", async () => {
    say({ status: 206, headers: { ...headers, "content-length": "3", "content-range": "bytes 0-2/5" }, body: "hel" });
    expect(Buffer.from((await CALLS["read of a range"]!()) as Uint8Array).toString()).toBe("hel");
  });

  test("are held against the whole, and one that never fits is reported as what it is", async () => {
    say({ headers: { ...headers, "content-length": "5" }, body: "hello" });
    expect(Buffer.from((await CALLS["read"]!()) as Uint8Array).toString()).toBe("hello");
    asked = 0;
    say({ headers: { ...headers, "content-length": "5" }, body: "hellO" });
    await expect(CALLS["read"]!()).rejects.toMatchObject({
      code: "store_unavailable",
      message: expect.stringMatching(/checksum.*x-amz-checksum-crc32/),
      cure: expect.stringContaining("AWS_RESPONSE_CHECKSUM_VALIDATION=WHEN_REQUIRED"),
    });
    expect(asked).toBe(ATTEMPTS);
  });

  test.each([
    [400, "InvalidRequest", "Value for x-amz-checksum-crc32 header is invalid."],
    [501, "NotImplemented", "A header you provided (x-amz-sdk-checksum-algorithm) is not implemented"],
    [400, "InvalidArgument", "aws-chunked is not supported"],
  ])("of requests are refused with %i %s by some, and the cure is said", async (status, code, message) => {
    say({ status, headers: XML, body: `<Error><Code>${code}</Code><Message>${message}</Message></Error>` });
    await expect(CALLS["create"]!()).rejects.toMatchObject({
      code: "store_refused",
      cure: expect.stringContaining("AWS_REQUEST_CHECKSUM_CALCULATION=WHEN_REQUIRED"),
    });
  });
});
