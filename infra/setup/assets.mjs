/**
 * The last step of the build: files of `dist` that are not compiled. The dashboard's pages, and the JSON Schemas that the
 * package publishes as `embedfleet/schemas/<name>.json`.
 */
import { cpSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { jsonSchemas, modelManifestJsonSchema } from "./schemas.mjs";

const root = fileURLToPath(new URL("../..", import.meta.url));

cpSync(`${root}/src/control/dashboard`, `${root}/dist/src/control/dashboard`, { recursive: true });

const schemas = `${root}/dist/schemas`;
rmSync(schemas, { recursive: true, force: true });
mkdirSync(schemas, { recursive: true });
for (const [name, schema] of Object.entries({ ...jsonSchemas(), "model-manifest": modelManifestJsonSchema() }))
  writeFileSync(`${schemas}/${name}.json`, `${JSON.stringify(schema, null, 2)}\n`);
