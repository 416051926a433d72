/** A conditional replacement whose answer is lost, or that meets another one, on a real server behind a proxy. */
import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, expect, test } from "vitest";
import { openStore } from "../../src/adapters/open-store.ts";
import type { ObjectStore } from "../../src/core/ports.ts";
import { describeS3 } from "../fixtures/describe-s3.ts";
import { type Fault, FaultProxy, type Page } from "../fixtures/fault-proxy.ts";

const CONFLICT: Page = {
  status: 409,
  headers: { "content-type": "application/xml", "x-amz-request-id": "tx1" },
  body: "<Error><Code>ConditionalRequestConflict</Code></Error>",
};

describeS3("a replacement on S3", ({ bucket, endpoint, region, credentials }) => {
  let proxy: FaultProxy;
  let store: ObjectStore;
  let other: ObjectStore;
  beforeAll(async () => {
    proxy = await FaultProxy.start({ upstream: endpoint, random: Math.random });
    const open = (url: string) =>
      openStore(`s3://${bucket}/r-${id}`, { s3: { endpoint: url, region, credentials, backoffMs: 1 } });
    const id = randomUUID();
    store = await open(proxy.url);
    other = await open(endpoint);
  });
  afterAll(async () => {
    await Promise.all([store.close(), other.close()]);
    await proxy.close();
  });

  /** The next accepted write is harmed, and no other. */
  function harmNextWrite(harm: Page | Fault): void {
    proxy.instead = ({ method }) => {
      if (method !== "PUT") return null;
      proxy.instead = () => null;
      return harm;
    };
  }

  async function made(): Promise<{ key: string; version: string }> {
    const key = `${randomUUID()}.json`;
    await store.create({ key, body: Buffer.from("one") });
    // Which form of the ETag this server takes is found out before a write is harmed.
    const first = (await store.readVersion({ key }))!.version;
    expect(await store.replace({ key, body: Buffer.from("two"), ifVersion: first })).toBe("replaced");
    return { key, version: (await store.readVersion({ key }))!.version };
  }
  const textOf = async (key: string): Promise<string> => Buffer.from(await other.read({ key })).toString();
  const body = Buffer.from("mine");

  test("of a version is done when only its answer was lost", async () => {
    const { key, version } = await made();
    harmNextWrite("reset-after");
    expect(await store.replace({ key, body, ifVersion: version })).toBe("replaced");
    expect(await textOf(key)).toBe("mine");
  });

  test("of nothing is done when only its answer was lost", async () => {
    const key = randomUUID();
    harmNextWrite("reset-after");
    expect(await store.replace({ key, body, ifVersion: null })).toBe("replaced");
    expect(await textOf(key)).toBe("mine");
  });

  test("that met another write is tried again while the version is the one that was named", async () => {
    const { key, version } = await made();
    harmNextWrite(CONFLICT);
    expect(await store.replace({ key, body, ifVersion: version })).toBe("replaced");
    harmNextWrite(CONFLICT);
    expect(await store.replace({ key: `${key}-new`, body, ifVersion: null })).toBe("replaced");
  });

  test("that lost against another, or whose request was lost before it, has changed nothing", async () => {
    const { key, version } = await made();
    await other.replace({ key, body: Buffer.from("theirs") });
    harmNextWrite("reset");
    expect(await store.replace({ key, body, ifVersion: version })).toBe("changed");
    harmNextWrite("503");
    expect(await store.replace({ key, body, ifVersion: null })).toBe("changed");
    expect(await textOf(key)).toBe("theirs");
  });
});
