/** Webhooks against a real receiver. */
import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { expect, onTestFinished, test } from "vitest";
import { HookRule } from "../../src/control/schedules/hook-rule.ts";
import {
  assertWebhook,
  isSigned,
  type Notice,
  sendNotice,
  SIGNATURE_HEADER,
} from "../../src/control/schedules/webhook.ts";

const secret = "a secret of this test";
const nowMs = Date.parse("2026-11-24T02:00:00Z");
const notice: Notice = { id: "n-1.sealed", event: "run.sealed", schedule: "n", run: "n-1", at: "2026-11-24T02:00:00Z" };

const rule = new HookRule({ hosts: ["127.0.0.1"], isAnyHost: false });

interface Received {
  readonly headers: IncomingMessage["headers"];
  readonly body: string;
}

async function receiver(status: number, received: Received[] = [], location?: string): Promise<string> {
  const server = createServer((request, response) => {
    let body = "";
    request.on("data", (chunk: Buffer) => (body += chunk.toString()));
    request.on("end", () => {
      received.push({ headers: request.headers, body });
      response.writeHead(status, location === undefined ? {} : { location }).end("thanks");
    });
  });
  await new Promise<void>((ready) => server.listen(0, "127.0.0.1", ready));
  onTestFinished(() => void server.close());
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook`;
}

test("a receiver can tell that the notice is ours, whole and fresh", async () => {
  const received: Received[] = [];
  await sendNotice({ url: await receiver(204, received), secret, notice, nowMs, rule });
  const { headers, body } = received[0]!;
  const signature = String(headers[SIGNATURE_HEADER]);
  expect(JSON.parse(body)).toEqual(notice);
  const check = { secret, body, signature, nowMs: nowMs + 1000, maxAgeMs: 300_000 };
  expect(isSigned(check)).toBe(true);
  expect(isSigned({ ...check, body: body.replace("n-1", "n-2") })).toBe(false);
  expect(isSigned({ ...check, secret: "another" })).toBe(false);
  expect(isSigned({ ...check, nowMs: nowMs + 400_000 })).toBe(false);
  expect(isSigned({ ...check, signature: "nonsense" })).toBe(false);
  expect(`${JSON.stringify(headers)} ${body}`).not.toContain(secret);
});

test.each([
  ["an error", 500, /answered 500 to n-1\.sealed/],
  ["a redirect", 302, /cannot be reached: it redirects/],
])("%s of the receiver is a fault that names it", async (_, status, message) => {
  const other: Received[] = [];
  const url = await receiver(status, [], status === 302 ? await receiver(200, other) : undefined);
  await expect(sendNotice({ url, secret, notice, nowMs, rule })).rejects.toMatchObject({
    code: "webhook_failed",
    message: expect.stringMatching(message),
  });
  expect(other).toEqual([]);
});

test("a receiver that is not there is a fault", async () => {
  const url = "http://127.0.0.1:9/hook";
  await expect(sendNotice({ url, secret, notice, nowMs, rule })).rejects.toMatchObject({ code: "webhook_failed" });
});

test.each(["ftp://host/x", "https://user:hunter2@host/x", "not a url", "file:///etc/passwd"])(
  "%s is refused",
  (url) => {
    expect(() => assertWebhook(url)).toThrow(expect.objectContaining({ code: "bad_usage" }));
    try {
      assertWebhook(url);
    } catch (error) {
      expect(String(error)).not.toContain("hunter2");
    }
  },
);
