/** A store that keeps a result file but for one bit of a vector: every value is as good as another, and still it is seen. */
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { FileStore } from "../../src/adapters/file/file-store.ts";
import { runKeys } from "../../src/core/layout.ts";
import { sealRun } from "../../src/run/seal.ts";
import { verifyRun } from "../../src/run/verify.ts";
import { OPTIONS, runUnsealed } from "../fixtures/pretend-fleet.ts";
import { decodeResults } from "../../src/arrow/results.ts";
import { tempFolder } from "../fixtures/temp-folder.ts";

const CORPUS = [
  ["a", "the quick brown fox"],
  ["b", "jumps over the lazy dog"],
] as const;

test("between upload and seal, and after the seal: neither seal nor verify takes it", async () => {
  const root = await tempFolder();
  const store = new FileStore(root);
  const run = "r";
  await runUnsealed(store, { run, corpus: CORPUS });
  const key = runKeys(run).data("w000000-s0000");
  const path = join(root, key);
  const sound = await readFile(path);
  const { dense } = decodeResults({ run, shard: "w000000-s0000", options: OPTIONS, bytes: sound }).rows;
  const changed = Buffer.from(sound);
  // The lowest bit of a value: no length and no norm is another for it.
  const place = sound.indexOf(Buffer.from(dense!.buffer, dense!.byteOffset, dense!.byteLength));
  expect(place).toBeGreaterThan(0);
  changed[place]! ^= 1;

  await writeFile(path, changed);
  const fault = { code: "object_corrupt", cure: expect.stringContaining(`delete ${key}`) };
  await expect(sealRun({ store, run, keepStaging: true })).rejects.toMatchObject(fault);
  const report = await verifyRun({ store, run });
  expect(report).toMatchObject({ ok: false, badHash: 1 });
  expect(report.findings).toContainEqual(expect.stringContaining("CRC-32"));

  await writeFile(path, sound);
  expect(await sealRun({ store, run, keepStaging: true })).toMatchObject({ kind: "sealed" });
  expect(await verifyRun({ store, run })).toMatchObject({ ok: true });
  await writeFile(path, changed);
  expect(await verifyRun({ store, run })).toMatchObject({ ok: false, badHash: 1 });
});
