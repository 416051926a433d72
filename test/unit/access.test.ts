/** Who may listen where, and what a token must be. */
import { expect, test } from "vitest";
import { Access } from "../../src/control/access.ts";
import { isLoopback } from "../../src/telemetry/listen.ts";

test.each(["0.0.0.0", "::", "10.1.2.3", "fleet.example", "127.0.0.1.example", "1270.0.0.1"])(
  "%s can be reached from elsewhere, so it needs a token",
  (host) => {
    expect(isLoopback(host)).toBe(false);
    expect(() => new Access({ host, token: undefined })).toThrow("there is no token");
    expect(new Access({ host, token: "a-good-long-token" }).token).toBe("a-good-long-token");
  },
);

test.each(["127.0.0.1", "127.8.8.8", "::1", "localhost"])("%s is this machine, and a token is made up", (host) => {
  expect(new Access({ host, token: undefined }).token).toMatch(/^[0-9a-f]{48}$/);
});

test("a token that can be guessed is refused anywhere", () => {
  expect(() => new Access({ host: "127.0.0.1", token: "abc" })).toThrow("can be guessed");
});
