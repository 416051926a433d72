/** The JSON Schemas that the package publishes describe the records that the program writes. */
import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Ajv2020 } from "ajv/dist/2020.js";
import { expect, test } from "vitest";
import { runRecordSchema } from "../../src/core/contracts.ts";
import { runOptions } from "../fixtures/run-options.ts";

const folder = fileURLToPath(new URL("../../dist/schemas", import.meta.url));
// Formats beside a pattern say the same again.
const ajv = new Ajv2020({ validateFormats: false });

const MODEL = { id: "m", revision: "1", sha256: "0".repeat(64), dim: 4, maxTokens: 64 };

function schemaOf(name: string): object {
  return JSON.parse(readFileSync(`${folder}/${name}.json`, "utf8")) as object;
}

test.each(readdirSync(folder))("%s compiles and is described", (file) => {
  const schema = schemaOf(file.replace(".json", ""));
  expect(schema).toMatchObject({ title: expect.any(String) as string, description: expect.any(String) as string });
  expect(() => ajv.compile(schema)).not.toThrow();
});

test("a run record is valid, and one with another field or a wrong one is not", () => {
  const record = { version: 2, run: "r", createdAt: "2026-11-28T00:00:00.000Z", inputs: ["a.jsonl"] };
  const whole = runRecordSchema.parse({ ...record, options: runOptions({ model: MODEL }) });
  const isValid = ajv.compile(schemaOf("run-record"));
  expect(isValid(whole), JSON.stringify(isValid.errors)).toBe(true);
  for (const wrong of [{ surplus: 1 }, { run: "../r" }, { options: undefined }])
    expect(isValid(JSON.parse(JSON.stringify({ ...whole, ...wrong })))).toBe(false);
});
