/** Checks that all stores share, so that they behave alike. */
import { FleetError } from "../core/errors.ts";
import { assertKey } from "../core/layout.ts";
import type { ByteRange } from "../core/ports.ts";

/** A listing's prefix is empty, a folder (`runs/x/`) or the beginning of a key (`runs/x/plan/w0`). */
export function assertPrefix(prefix: string): void {
  if (prefix !== "") assertKey(prefix.endsWith("/") ? prefix.slice(0, -1) : prefix);
}

export function assertRange(key: string, range: ByteRange): void {
  const whole = Number.isSafeInteger(range.start) && Number.isSafeInteger(range.end);
  if (!whole || range.start < 0 || range.end <= range.start) {
    throw new FleetError(
      "store_refused",
      `the byte range ${range.start} to ${range.end} of ${key} is empty or negative`,
      {
        cure: "this is a fault of the caller or a forged plan or job; nothing was read",
      },
    );
  }
}

/** Checked before a buffer is allocated: `maxBytes` limits what one read may load into memory. */
export function assertWithin(params: Readonly<{ where: string; bytes: number; maxBytes: number | undefined }>): void {
  const { where, bytes, maxBytes } = params;
  if (maxBytes !== undefined && bytes > maxBytes) {
    throw new FleetError(
      "object_corrupt",
      `${where} has ${bytes} bytes to read, but at most ${maxBytes} are accepted`,
      {
        cure: "no writer of this fleet makes an object that large; find out what put it there, and remove it",
      },
    );
  }
}

export function shorterThanRange(
  params: Readonly<{ where: string; bytes: number | undefined; range: ByteRange }>,
): FleetError {
  const { where, bytes, range } = params;
  const size = bytes === undefined ? "shorter than that" : `${bytes} bytes long`;
  return new FleetError(
    "object_corrupt",
    `bytes ${range.start} to ${range.end} of ${where} were requested, but it is ${size}`,
    {
      cure: "the object is not the one that the plan describes; verify the run, and remove what was changed by hand",
    },
  );
}

export function missing(where: string, cause?: unknown): FleetError {
  return new FleetError("object_missing", `there is no object ${where}`, {
    cure: "check the store's URL and the run's id; if both are right, the object was removed",
    cause,
  });
}
