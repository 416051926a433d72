import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll } from "vitest";
import { openStore } from "../../src/adapters/open-store.ts";
import { describeS3 } from "../fixtures/describe-s3.ts";
import { ScriptedStore } from "../fixtures/scripted-store.ts";
import { objectStoreSuite } from "./object-store.suite.ts";

const folder = mkdtempSync(join(tmpdir(), "embedfleet-stores-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
objectStoreSuite("files", (name) => openStore(`file://${folder}/${name}`));

const objects = new Map<string, Uint8Array>();
objectStoreSuite("the scripted store", async (prefix) => new ScriptedStore({ prefix, objects }));

describeS3("S3", ({ bucket, endpoint, region, credentials }) => {
  objectStoreSuite("a real server", (name) =>
    openStore(`s3://${bucket}/${name}`, { s3: { endpoint, region, credentials } }),
  );
});
