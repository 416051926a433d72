/** An S3 server that takes connections and answers nothing. */
import { once } from "node:events";
import { createServer, type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import { expect, onTestFinished, test } from "vitest";
import { S3Store } from "../../src/adapters/s3/s3-store.ts";

const KEY = "store.json";

/** A store on a server, and how often it was asked. */
async function storeOn(listener: RequestListener): Promise<{ store: S3Store; port: number; asked: () => number }> {
  let asked = 0;
  const server = createServer((request, response) => {
    asked++;
    listener(request, response);
  });
  server.listen(0, "127.0.0.1");
  onTestFinished(() => server.closeAllConnections());
  onTestFinished(() => void server.close());
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const credentials = { accessKeyId: "test", secretAccessKey: "test" };
  const options = { endpoint: `http://127.0.0.1:${port}`, region: "us-east-1", credentials, backoffMs: 1 };
  const store = new S3Store({
    bucket: "b",
    prefix: "p",
    options: { ...options, maxAttempts: 3, idleTimeoutMs: 10_000 },
  });
  onTestFinished(() => store.close());
  return { store, port, asked: () => asked };
}

test("from the beginning: the first call says so within seconds, by the server's address, and is not repeated", async () => {
  const { store, port, asked } = await storeOn(() => {});
  const message = `the S3 server at http://127.0.0.1:${port} did not answer within 8 s`;
  await expect(store.stat({ key: KEY })).rejects.toMatchObject({
    code: "store_unavailable",
    message,
    cure: expect.stringContaining("--s3-endpoint") as string,
  });
  expect(asked()).toBe(1);
});

test("after an answer, a call that gets none is repeated", async () => {
  let silent = 0;
  const { store, asked } = await storeOn((_, response) => {
    if (asked() === 2 && silent++ === 0) response.destroy();
    else response.writeHead(404).end();
  });
  expect(await store.stat({ key: KEY })).toBeNull();
  expect(await store.stat({ key: KEY })).toBeNull();
  expect([asked(), silent]).toEqual([3, 1]);
});
