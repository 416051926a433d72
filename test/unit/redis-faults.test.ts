/** What a fault of Redis, ioredis or BullMQ becomes; and that a mistake in a program is never taken for one. */
import { expect, test } from "vitest";
import { isPassingFault, redisFault } from "../../src/adapters/redis/redis-faults.ts";
import { FleetError, hasCode, isPassing } from "../../src/core/errors.ts";

const PROBLEM = "Redis at redis://h could not count jobs";

function named(name: string, message: string): Error {
  return Object.assign(new Error(message), { name });
}

function reply(message: string): Error {
  return named("ReplyError", message);
}

function coded(code: string | number): Error {
  return Object.assign(new Error(`it says ${code}`), { code });
}

const PASSING: Error[] = [
  reply("READONLY You can't write against a read only replica."),
  reply("LOADING Redis is loading the dataset in memory"),
  reply("OOM command not allowed when used memory > 'maxmemory'."),
  reply("MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist on disk"),
  reply("ERR Error running script (call to f_1): @user_script:7: @user_script: 7: -OOM command not allowed"),
  reply("ERR Error running script (call to f_1): @user_script:7: @user_script: 7: -READONLY You can't write"),
  reply("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'."),
  reply("UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)"),
  reply("CLUSTERDOWN The cluster is down"),
  reply("TRYAGAIN Multiple keys request during rehashing of slot"),
  reply("BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."),
  reply("NOREPLICAS Not enough good replicas to write."),
  reply("ERR max number of clients reached"),
  ...["ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "EPIPE", "ENOTFOUND", "EHOSTUNREACH", "EAI_AGAIN", "ENOENT"].map(
    coded,
  ),
  coded("CERT_HAS_EXPIRED"),
  new Error("Connection is closed."),
  new Error("Command timed out"),
  new Error("Command aborted due to connection close"),
  new Error("Stream isn't writeable and enableOfflineQueue options is false"),
  new Error("Socket timeout. Expecting data, but didn't receive any in 10000ms."),
  new Error("connect ETIMEDOUT"),
  named("MaxRetriesPerRequestError", "Reached the max retries per request limit (which is 1)."),
  named("AbortError", "Command aborted due to connection close"),
  named("ConnectionClosedError", "Connection is closed"),
];

const UNSUITABLE: [Error, RegExp][] = [
  [reply("NOAUTH Authentication required."), /user and password/],
  [reply("WRONGPASS invalid username-password pair or user is disabled."), /user and password/],
  [reply("ERR invalid password"), /user and password/],
  [reply("NOPERM User worker has no permissions to run the 'zadd' command"), /users\.acl/],
  [reply("MOVED 3999 127.0.0.1:6381"), /cluster/],
  [reply("CROSSSLOT Keys in request don't hash to the same slot"), /cluster/],
  [reply("WRONGTYPE Operation against a key holding the wrong kind of value"), /another --fleet/],
  [new Error("WRONGTYPE Operation against a key holding the wrong kind of value"), /another --fleet/],
  [reply("ERR value is not an integer or out of range"), /another --fleet/],
  [reply("ERR unknown command 'EVALSHA', with args beginning with:"), /6\.2 or newer/],
];

test.each(PASSING.map((error) => [error.message, error]))("%s: try again later", (message, error) => {
  const fault = redisFault(error, PROBLEM);
  expect(fault).toMatchObject({ code: "redis_unavailable", message: `${PROBLEM}: ${message}`, cause: error });
  expect((fault as FleetError).cure).toMatch(/\w/);
  expect(isPassingFault(error)).toBe(true);
});

test.each(UNSUITABLE)("%s: for people to fix", (error, cure) => {
  const fault = redisFault(error, PROBLEM);
  expect(fault).toMatchObject({ code: "redis_unsuitable", cure: expect.stringMatching(cure), cause: error });
  expect(isPassingFault(error)).toBe(false);
});

const OTHERS: unknown[] = [
  new TypeError("rows.map is not a function"),
  new TypeError("cannot read OOM of undefined"),
  new RangeError("Array buffer allocation failed"),
  new ReferenceError("READONLY is not defined"),
  new Error("a mistake of ours"),
  coded("ENOMEM"),
  coded("ERR_INVALID_ARG_TYPE"),
  // BullMQ's numbers are about leases, of which the store has the truth.
  coded(-2),
  "thrown",
  undefined,
  null,
];

test.each(OTHERS)("%s is no fault of Redis, stays as it is, and is not passing", (error) => {
  expect(redisFault(error, PROBLEM)).toBe(error);
  expect(isPassing(redisFault(error, PROBLEM))).toBe(false);
  expect(isPassingFault(error)).toBe(false);
});

test("a coded fault stays as it is", () => {
  const fault = new FleetError("contract_newer", "newer");
  expect(redisFault(fault, PROBLEM)).toBe(fault);
  expect(hasCode(redisFault(fault, PROBLEM), "contract_newer")).toBe(true);
});
