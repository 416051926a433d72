/** What is a Redis address, what is none, and that none is shown with its password. */
import { expect, test } from "vitest";
import { optionsOfAddress } from "../../src/adapters/redis/address.ts";
import { redactUrl } from "../../src/core/redact-url.ts";
import { FleetError } from "../../src/core/errors.ts";

const PLAIN = { host: "localhost", port: 6379, db: 0 };

test.each([
  ["redis://localhost", PLAIN],
  ["redis://", PLAIN],
  ["redis:///3", { ...PLAIN, db: 3 }],
  ["redis://queue:7000/15", { host: "queue", port: 7000, db: 15 }],
  ["redis://queue:7000/", { host: "queue", port: 7000, db: 0 }],
  ["redis://[::1]:7000", { host: "::1", port: 7000, db: 0 }],
  ["redis://localhost?family=6", { ...PLAIN, family: 6 }],
  ["redis://:p%40ss@localhost", { ...PLAIN, password: "p@ss" }],
  ["redis://me:p/w#1@x@localhost", { ...PLAIN, username: "me", password: "p/w#1@x" }],
  [
    "rediss://me:secret@queue:6380/1",
    { host: "queue", port: 6380, db: 1, username: "me", password: "secret", tls: {} },
  ],
  ["unix:///run/redis.sock", { path: "/run/redis.sock" }],
  [
    "redis+sentinel://me:secret@a:1,b,[::2]:3/main/4?sentinelPassword=s%26t&sentinelUsername=watch",
    {
      sentinels: [
        { host: "a", port: 1 },
        { host: "b", port: 26379 },
        { host: "::2", port: 3 },
      ],
      name: "main",
      db: 4,
      username: "me",
      password: "secret",
      sentinelUsername: "watch",
      sentinelPassword: "s&t",
    },
  ],
  [
    "rediss+sentinel://a/main",
    {
      sentinels: [{ host: "a", port: 26379 }],
      name: "main",
      db: 0,
      tls: {},
      sentinelTLS: {},
      enableTLSForSentinelMode: true,
    },
  ],
])("%s", (url, options) => {
  expect(optionsOfAddress(url)).toEqual(options);
});

test.each([
  ["queue:6379", "is not a Redis address"],
  ["http://queue", "is not a Redis address"],
  ["redis://queue/abc", '"abc" is not a valid database number'],
  ["redis://queue/-1", '"-1" is not a valid database number'],
  ["redis://queue/1e9", "is not a valid database number"],
  ["redis://queue/0/1", "is not a valid database number"],
  ["redis://queue:0", "host:port is missing or not valid"],
  ["redis://queue:70000", "host:port is missing or not valid"],
  ["redis://a:1,b:2", "host:port is missing or not valid"],
  ["redis://queue?maxRetriesPerRequest=3", "only these parameters are supported"],
  ["redis://queue?family=5", "family must be 4, 6, or 0"],
  ["redis://:100%@queue", "percent-encoded"],
  ["redis+sentinel://a:1,b:2", "the name that they monitor"],
  ["redis+sentinel://a:1/main/x", '"x" is not a valid database number'],
  ["redis+sentinel://a:1/main/0/1", "the name that they monitor"],
])("%s is refused: %s", (url, why) => {
  expect(() => optionsOfAddress(url)).toThrow(FleetError);
  expect(() => optionsOfAddress(url)).toThrow(why);
});

test.each([
  "redis://:SECRET@queue",
  "redis://me:SECRET@queue:6379/0",
  "redis://SECRET@queue",
  "redis://me:SECRET/SECRET@queue",
  "redis://me:SECRET@SECRET@queue",
  "redis://me:SECRET?SECRET@queue",
  "redis://me:SECRET#SECRET@queue/abc",
  "redis+sentinel://me:SECRET@a:1,b:2/main?sentinelPassword=SECRET",
  "redis+sentinel://a:1/main?sentinelPassword=SECRET",
  "redis+sentinel://a:1/main?sentinelPassword=SEC@SECRET&sentinelUsername=x",
  "redis+sentinel://me:SECRET@a:1/main?SENTINELPASSWORD=SECRET",
  "http://me:SECRET@queue",
])("%s is shown without its password", (url) => {
  expect(redactUrl(url)).not.toContain("SECRET");
  try {
    optionsOfAddress(url);
  } catch (error) {
    expect((error as FleetError).message + (error as FleetError).cure).not.toContain("SECRET");
  }
});
