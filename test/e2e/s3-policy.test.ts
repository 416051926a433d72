/** The least-privileged policy of `infra/s3` is enough for a whole run, and for nothing outside its prefix. */
import { randomUUID } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { PutBucketPolicyCommand, S3Client } from "@aws-sdk/client-s3";
import { describe, expect, inject, onTestFinished, test } from "vitest";
import { openStore } from "../../src/adapters/open-store.ts";
import { cli } from "../fixtures/cli.ts";
import { makeCorpus } from "../fixtures/made-corpus.ts";
import { tempFolder } from "../fixtures/temp-folder.ts";

const POLICY = new URL("../../infra/s3/policy.json", import.meta.url);
const s3 = inject("s3");

/** The file's statements, for one user: an identity policy has no principal, a bucket's policy needs one. */
async function grant(prefix: string): Promise<void> {
  const { endpoint, region, bucket, credentials } = s3!;
  const text = (await readFile(POLICY, "utf8")).replaceAll("BUCKET", bucket).replaceAll("PREFIX", prefix);
  const policy = JSON.parse(text) as { Statement: object[] };
  const Principal = { AWS: ["arn:aws:iam:::user/fleet"] };
  const Statement = policy.Statement.map((statement) => ({ ...statement, Principal }));
  const owner = new S3Client({ endpoint, region, credentials, forcePathStyle: true });
  onTestFinished(() => owner.destroy());
  await owner.send(new PutBucketPolicyCommand({ Bucket: bucket, Policy: JSON.stringify({ ...policy, Statement }) }));
}

describe.skipIf(s3?.fleet === undefined)("S3 with a second user (a server that these tests have started)", () => {
  test("a run with the least-privileged policy, and nothing beyond", async () => {
    const { endpoint, region, bucket } = s3!;
    const { accessKeyId, secretAccessKey } = s3!.fleet!;
    const prefix = `policy-${randomUUID()}`;
    await grant(prefix);
    const corpus = join(await tempFolder(), "corpus.jsonl");
    await writeFile(corpus, makeCorpus({ documents: 40, seed: 3, maxWords: 60 }));
    const env = { AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey };
    const server = ["--s3-endpoint", endpoint, "--s3-region", region, "--log-level", "warn"];
    const out = `s3://${bucket}/${prefix}`;
    const run = await cli(["run", corpus, "--out", out, "--run", "r", "--heads", "dense", ...server], env);
    expect(run.code, run.stderr).toBe(0);
    const verified = await cli(["verify", out, "r", "--json", ...server], env);
    expect(JSON.parse(verified.stdout)).toMatchObject({ ok: true, rows: 40 });

    const elsewhere = await openStore(`s3://${bucket}/elsewhere`, { s3: { endpoint, region, credentials: s3!.fleet } });
    onTestFinished(() => elsewhere.close());
    const denied = { code: "store_refused" };
    await expect(elsewhere.create({ key: "x", body: Buffer.from("x") })).rejects.toMatchObject(denied);
    await expect(elsewhere.list({ prefix: "" })[Symbol.asyncIterator]().next()).rejects.toMatchObject(denied);
  });
});
