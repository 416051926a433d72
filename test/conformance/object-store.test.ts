import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, inject } from "vitest";
import { openStore } from "../../src/adapters/open-store.ts";
import { ScriptedStore } from "../fixtures/scripted-store.ts";
import { objectStoreSuite } from "./object-store.suite.ts";

const folder = mkdtempSync(join(tmpdir(), "embedfleet-stores-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
objectStoreSuite("files", (name) => openStore(`file://${folder}/${name}`));

objectStoreSuite("the scripted store", async () => new ScriptedStore());

const s3 = inject("s3");
// Without a server the run's last lines say that this part did not run; in CI its absence fails.
describe.skipIf(s3 === null)("S3", () => {
  objectStoreSuite("a real server", (name) => {
    const { bucket, endpoint, region, credentials } = s3!;
    return openStore(`s3://${bucket}/${name}`, { s3: { endpoint, region, credentials } });
  });
});
