/**
 * `npm run docs:api`: describes every export of the library below out/docs/api, with TypeDoc. It fails where a public
 * name has no docstring or uses a type that is not exported. With `--check` the pages are made and thrown away.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { installTypeDoc, root } from "./prepare.mjs";

installTypeDoc();
const isCheck = process.argv.includes("--check");
const folder = isCheck ? mkdtempSync(join(tmpdir(), "embedfleet-api-")) : join(root, "out/docs/api");
const typedoc = join(root, "infra/typedoc/node_modules/typedoc/bin/typedoc");
const options = ["--options", join(root, "infra/typedoc/typedoc.json"), "--out", folder, "--logLevel", "Warn"];
const { status } = spawnSync(process.execPath, [typedoc, ...options], { stdio: ["ignore", "inherit", "inherit"] });
if (isCheck) rmSync(folder, { recursive: true });
else if (status === 0) console.log(`the pages are in ${folder}`);
process.exitCode = status ?? 1;
