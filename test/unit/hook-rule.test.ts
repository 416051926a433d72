/** Whom a webhook reaches: by every way there is to write an address, and whatever a name stands for by then. */
import type { LookupAddress } from "node:dns";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { expect, onTestFinished, test } from "vitest";
import { reachOf } from "../../src/control/schedules/addresses.ts";
import { HookRule } from "../../src/control/schedules/hook-rule.ts";
import { type Notice, sendNotice } from "../../src/control/schedules/webhook.ts";

const notice: Notice = { id: "n-1.sealed", event: "run.sealed", schedule: "n", run: "n-1", at: "2026-11-24T02:00:00Z" };

/** A resolver that knows these names. */
function names(known: Record<string, string[]>): (host: string) => Promise<LookupAddress[]> {
  return async (host) =>
    (known[host] ?? []).map((address) => ({ address, family: address.includes(":") ? 6 : 4 }) as const);
}

test.each([
  ["93.184.216.34", "public"],
  ["2606:4700::1111", "public"],
  ["64:ff9b::5db8:d822", "public"],
  ["127.0.0.1", "inner"],
  ["10.1.2.3", "inner"],
  ["172.31.255.255", "inner"],
  ["192.168.0.1", "inner"],
  ["100.64.0.1", "inner"],
  ["::1", "inner"],
  ["fd12:3456::1", "inner"],
  ["::ffff:127.0.0.1", "inner"],
  ["::ffff:a00:1", "inner"],
  ["64:ff9b::10.0.0.1", "inner"],
  ["0.0.0.0", "never"],
  ["::", "never"],
  ["169.254.169.254", "never"],
  ["::ffff:169.254.169.254", "never"],
  ["64:ff9b::a9fe:a9fe", "never"],
  ["100.100.100.200", "never"],
  ["168.63.129.16", "never"],
  ["192.0.0.192", "never"],
  ["224.0.0.1", "never"],
  ["255.255.255.255", "never"],
  ["fe80::1", "never"],
  ["fe80::1%eth0", "never"],
  ["fd00:ec2::254", "never"],
  ["ff02::1", "never"],
  ["2002:7f00:1::", "never"],
  ["2001:0:7f00:1::", "never"],
  ["::127.0.0.1", "never"],
  ["not an address", "never"],
] as const)("%s is %s", (address, reach) => {
  expect(reachOf(address)).toBe(reach);
});

test.each([
  "http://127.0.0.1/x",
  "http://localhost/x",
  "http://2130706433/x",
  "http://0x7f.1/x",
  "http://0177.0.0.1/x",
  "http://127.1:8080/x",
  "http://[::1]/x",
  "http://[::ffff:127.0.0.1]/x",
  "http://0.0.0.0/x",
  "http://[::]/x",
  "http://169.254.169.254/latest/meta-data/",
  "http://10.0.0.1/x",
  "http://inner.example./x",
  "http://mixed.example/x",
])("a signed schedule, too, does not reach %s unless its host is named", async (url) => {
  const resolve = names({
    localhost: ["127.0.0.1", "::1"],
    "inner.example": ["192.168.1.1"],
    "mixed.example": ["93.184.216.34", "fd12::1"],
  });
  const rule = new HookRule({ hosts: ["hooks.example"], isAnyHost: true, resolve });
  await expect(rule.addressesOf(new URL(url))).rejects.toMatchObject({ code: "schedule_refused" });
});

test("an unsigned schedule reaches the named hosts and ports, and no others", async () => {
  const resolve = names({
    "hooks.example": ["10.0.0.8"],
    "a.apps.example": ["93.184.216.34"],
    "apps.example": ["93.184.216.34"],
    "evilhooks.example": ["93.184.216.34"],
    "cloud.example": ["169.254.169.254"],
  });
  const hosts = ["hooks.example:8443", "*.apps.example", "cloud.example", "[fd12::1]:80", "10.9.9.9"];
  const rule = new HookRule({ hosts, isAnyHost: false, resolve });
  const reaches = async (url: string): Promise<boolean> =>
    rule.addressesOf(new URL(url)).then(
      () => true,
      () => false,
    );
  for (const url of [
    "https://HOOKS.example:8443/x",
    "https://a.apps.example/x",
    "http://[fd12::1]/x",
    "http://10.9.9.9:81/",
  ])
    expect(await reaches(url), url).toBe(true);
  for (const url of [
    "https://hooks.example/x",
    "https://apps.example/",
    "https://evilhooks.example:8443/",
    "https://cloud.example/",
    "http://[fd12::1]:81/",
    "http://10.9.9.10/",
  ])
    expect(await reaches(url), url).toBe(false);
});

test("a host that is none ends control at its start", () => {
  for (const host of ["http://x", "a b", "*", "x/y", "x:port"])
    expect(() => new HookRule({ hosts: [host], isAnyHost: false }), host).toThrow("is not a host");
});

test("the request goes to the address that was looked at, though the name stands for another one by then", async () => {
  const seen: (string | undefined)[] = [];
  const server = createServer((request, response) => {
    seen.push(request.headers.host);
    response.writeHead(204).end();
  });
  await new Promise<void>((ready) => server.listen(0, "127.0.0.1", ready));
  onTestFinished(() => void server.close());
  const { port } = server.address() as AddressInfo;
  let asked = 0;
  const resolve = async (): Promise<LookupAddress[]> => {
    asked++;
    return [{ address: asked === 1 ? "127.0.0.1" : "169.254.169.254", family: 4 }];
  };
  const rule = new HookRule({ hosts: ["rebind.example"], isAnyHost: false, resolve });
  const sending = { url: `http://rebind.example:${port}/`, secret: "s", notice, nowMs: 0, rule };
  await sendNotice(sending);
  expect([asked, seen]).toEqual([1, [`rebind.example:${port}`]]);
  await expect(sendNotice(sending)).rejects.toMatchObject({ code: "schedule_refused" });
});
