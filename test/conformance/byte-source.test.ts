import { DeleteObjectCommand, PutObjectCommand, S3Client } from "@aws-sdk/client-s3";
import { randomUUID } from "node:crypto";
import { type FileHandle, open, readdir, readlink, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { openFileSource } from "../../src/adapters/file/file-source.ts";
import { S3Bucket, type S3Entry } from "../../src/adapters/s3/s3-source.ts";
import { describeS3 } from "../fixtures/describe-s3.ts";
import { tempFolder } from "../fixtures/temp-folder.ts";
import { byteSourceSuite } from "./byte-source.suite.ts";

byteSourceSuite("a file", 3_500_000, async () => {
  const folder = await tempFolder();
  return {
    write: (name, body) => writeFile(join(folder, name), body),
    remove: (name) => rm(join(folder, name)),
    open: (name) => openFileSource({ path: join(folder, name), name }),
  };
});

test.runIf(process.platform === "linux")("a file whose disk fails when it is looked at is closed again", async () => {
  const path = join(await tempFolder(), "corpus.jsonl");
  await writeFile(path, "{}\n");
  const probe = await open(path);
  await probe.close();
  const handles = Object.getPrototypeOf(probe) as FileHandle;
  const { stat } = handles;
  // No disk here fails when it is told to.
  handles.stat = (): Promise<never> =>
    Promise.reject(Object.assign(new Error("EIO: i/o error, fstat"), { code: "EIO" }));
  onTestFinished(() => void (handles.stat = stat));
  await expect(openFileSource({ path, name: "corpus.jsonl" })).rejects.toMatchObject({ code: "source_unreadable" });
  const fds = await readdir("/proc/self/fd");
  const opened = await Promise.all(fds.map((fd) => readlink(`/proc/self/fd/${fd}`).catch(() => null)));
  expect(opened).not.toContain(path);
});

describeS3("S3", ({ bucket, endpoint, region, credentials }) => {
  byteSourceSuite("an object on a real server", 13_000_000, async () => {
    const client = new S3Client({ endpoint, region, credentials, forcePathStyle: true });
    const reader = new S3Bucket({ bucket, options: { endpoint, region, credentials } });
    onTestFinished(async () => {
      client.destroy();
      await reader.close();
    });
    const prefix = `sources/${randomUUID()}`;
    let found: S3Entry | null = null;
    return {
      write: async (name, body) =>
        void (await client.send(new PutObjectCommand({ Bucket: bucket, Key: `${prefix}/${name}`, Body: body }))),
      remove: async (name) =>
        void (await client.send(new DeleteObjectCommand({ Bucket: bucket, Key: `${prefix}/${name}` }))),
      open: async (name) => {
        // As a listing found it, which may be some time ago.
        found = (await reader.find(`${prefix}/${name}`)) ?? found;
        return reader.open(found!);
      },
    };
  });
});
