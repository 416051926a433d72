/** The reference of the library can be made: every public export has a docstring, and every type it uses is exported. */
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const script = fileURLToPath(new URL("../../infra/setup/docs-api.mjs", import.meta.url));

test("every public export is described", () => {
  const { status, stdout, stderr } = spawnSync(process.execPath, [script, "--check"], { encoding: "utf8" });
  expect(status, stdout + stderr).toBe(0);
}, 600_000);
