/**
 * Replaces an S3 object only if it is unchanged. `If-Match` decides where the server honours it. Before it the ETag is
 * read and compared, for servers that accept the header and ignore it: there, a writer between the two requests is
 * overwritten, and that window of one round trip is the only one.
 */
import { HeadObjectCommand, PutObjectCommand, type S3Client } from "@aws-sdk/client-s3";
import { FleetError } from "../../core/errors.ts";
import type { ReplaceOutcome, VersionedBody } from "../../core/ports.ts";
import { nameOf, type RetryLimits, refusesChecksum, type S3Call, statusOf, withRetries } from "./s3-faults.ts";

interface Replacement {
  readonly at: S3Call;
  readonly target: Readonly<{ Bucket: string; Key: string }>;
  readonly body: Buffer;
  /** An ETag, or null when there must be no object. */
  readonly ifVersion: string | null;
  readonly limits: RetryLimits;
  readonly read: () => Promise<VersionedBody | null>;
}

/** Precondition Failed, and the answer of some servers to If-Match on a missing object. */
const NOT_MET = new Set([404, 412]);

type EtagForm = "quoted" | "bare";

export class ConditionalWriter {
  readonly #client: S3Client;
  /** Ceph's radosgw compares the header with the bare digest and so never matches a quoted ETag, which is the standard's form. */
  #form: EtagForm = "quoted";

  constructor(client: S3Client) {
    this.#client = client;
  }

  /** @throws FleetError `store_refused` when the server does not recognise its own ETag; the errors of `withRetries` */
  async replace(params: Replacement): Promise<ReplaceOutcome> {
    let maybeDone = false;
    return withRetries(params.at, params.limits, async () => {
      try {
        if (await this.#write(params)) return "replaced";
      } catch (error) {
        // It may have taken effect anyway; the next attempt then reports that the object has changed.
        maybeDone = true;
        throw error;
      }
      return maybeDone && (await holds(params)) ? "replaced" : "changed";
    });
  }

  /** @returns Whether the condition held and the body was written. */
  async #write(params: Replacement): Promise<boolean> {
    if (params.ifVersion === null) return this.#put(params, { IfNoneMatch: "*" });
    const first = this.#form;
    for (const form of [first, first === "quoted" ? "bare" : "quoted"] as const) {
      if ((await this.#versionNow(params)) !== params.ifVersion) return false;
      if (await this.#put(params, { IfMatch: inForm(params.ifVersion, form) })) {
        this.#form = form;
        return true;
      }
    }
    if ((await this.#versionNow(params)) !== params.ifVersion) return false;
    throw ownEtagRefused(params);
  }

  async #put(
    params: Replacement,
    condition: Readonly<{ IfNoneMatch: string } | { IfMatch: string }>,
  ): Promise<boolean> {
    try {
      await this.#client.send(new PutObjectCommand({ ...params.target, Body: params.body, ...condition }));
      return true;
    } catch (error) {
      const status = statusOf(error) ?? 0;
      if (NOT_MET.has(status) && nameOf(error) !== "NoSuchBucket") return false;
      // It collided with another write, which has usually won; if not, S3 asks for a new attempt.
      if (lacksConditions(error)) return this.#putWithout(params, condition, error);
      if (status === 409 && (await this.#versionNow(params)) !== params.ifVersion) return false;
      throw error;
    }
  }

  /** Writes without a condition: for a server without If-Match, the comparison a moment ago has to suffice. */
  async #putWithout(
    { at, target, body }: Replacement,
    condition: Readonly<{ IfNoneMatch: string } | { IfMatch: string }>,
    cause: unknown,
  ): Promise<boolean> {
    if ("IfNoneMatch" in condition) throw noConditions(at, cause);
    await this.#client.send(new PutObjectCommand({ ...target, Body: body }));
    return true;
  }

  async #versionNow({ target }: Replacement): Promise<string | null> {
    try {
      return (await this.#client.send(new HeadObjectCommand(target))).ETag ?? null;
    } catch (error) {
      if (statusOf(error) === 404) return null;
      throw error;
    }
  }
}

async function holds({ body, read }: Replacement): Promise<boolean> {
  const found = await read();
  return found !== null && body.equals(found.body);
}

function inForm(etag: string, form: EtagForm): string {
  return form === "quoted" ? etag : etag.replace(/^"(.*)"$/, "$1");
}

function ownEtagRefused({ at, ifVersion }: Replacement): FleetError {
  return new FleetError(
    "store_refused",
    `${at.operation} ${at.where}: the server says that the ETag is not ${ifVersion}, which is the one that it sent`,
    { cure: "a proxy before the server may change ETags (compression does); switch that off" },
  );
}

export function lacksConditions(error: unknown): boolean {
  return statusOf(error) === 501 && !refusesChecksum(error);
}

export function noConditions(at: S3Call, cause: unknown): FleetError {
  return new FleetError("store_refused", `${at.operation} ${at.where}: this server has no conditional writes (501)`, {
    cure: "create-if-absent (If-None-Match: *) keeps two workers from writing one file; use AWS S3, Ceph, versitygw or another server that has it",
    cause,
  });
}
