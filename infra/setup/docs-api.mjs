/** `npm run docs:api`: writes docs/reference/api.md with TypeDoc; with `--check`, says whether it is right. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { installTypeDoc, root } from "./prepare.mjs";

const HEAD = `# The library

What \`import { … } from "embedfleet"\` offers. [README](../../README.md#as-a-library) has an example that runs.
Made from \`src/index.ts\` by \`npm run docs:api\`.

`;

/** @returns The page, or null when TypeDoc complained: of a public name without a docstring, for example. */
function makePage(folder) {
  const typedoc = `${root}/infra/typedoc/node_modules/typedoc/bin/typedoc`;
  const options = ["--options", `${root}/infra/typedoc/typedoc.json`, "--out", folder, "--logLevel", "Warn"];
  const { status } = spawnSync(process.execPath, [typedoc, ...options], { stdio: ["ignore", "inherit", "inherit"] });
  return status === 0 ? HEAD + readFileSync(join(folder, "api.md"), "utf8") : null;
}

installTypeDoc();
const page = `${root}/docs/reference/api.md`;
const folder = mkdtempSync(join(tmpdir(), "embedfleet-api-"));
const made = makePage(folder);
rmSync(folder, { recursive: true });
if (made === null) process.exitCode = 1;
else if (!process.argv.includes("--check")) writeFileSync(page, made);
else if (readFileSync(page, "utf8") !== made) {
  console.error("error: docs/reference/api.md does not describe the library as it is\n  run: npm run docs:api");
  process.exitCode = 1;
}
