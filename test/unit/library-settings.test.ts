/** The library goes by what it is given: no variable changes a default, and a value that cannot be is refused. */
import { availableParallelism, homedir } from "node:os";
import { join } from "node:path";
import { afterEach, expect, test, vi } from "vitest";
import { withDefaults } from "../../src/fleet/check-settings.ts";
import { enqueueCorpus } from "../../src/fleet/enqueue-corpus.ts";
import { enqueueSettings, produceSettings, workerSettings } from "../../src/fleet/settings.ts";
import { parsed } from "../fixtures/parsed-settings.ts";

const given = { out: "x", redis: "redis://127.0.0.1:1" };

afterEach(() => vi.unstubAllEnvs());

test("no variable is read, good or bad", async () => {
  const before = [enqueueSettings, produceSettings, workerSettings].map((schema) => withDefaults(schema, given));
  for (const name of Object.keys({ ...enqueueSettings.shape, ...workerSettings.shape }))
    vi.stubEnv(`EMBEDFLEET_${name.replaceAll(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()}`, "maybe");
  vi.stubEnv("EMBEDFLEET_CACHE", "/elsewhere");
  vi.stubEnv("XDG_CACHE_HOME", "/elsewhere");
  const after = [enqueueSettings, produceSettings, workerSettings].map((schema) => withDefaults(schema, given));
  expect(after).toEqual(before);
  // Its first fault is the corpus, and no variable.
  await expect(enqueueCorpus({ ...given, inputs: ["/not/there.jsonl"] })).rejects.toThrow("/not/there.jsonl");
});

test("defaults of the machine are asked for at each call, and are those of the command line", () => {
  const library = withDefaults(workerSettings, given);
  expect(library.threads).toBe(availableParallelism());
  expect(library.models).toBe(join(homedir(), ".cache", "embedfleet", "models"));
  const { out: _out, redis: _redis, ...defaults } = library;
  expect(parsed("work", ["--out", "x"])).toMatchObject({ ...defaults });
});

test("what is not said is by default, and undefined is nothing said", () => {
  expect(withDefaults(workerSettings, { ...given, lockSeconds: undefined, metricsPort: undefined })).toEqual(
    withDefaults(workerSettings, given),
  );
});

test.each([
  [{ lockSeconds: 0 }, "lockSeconds", "a whole number of at least 3"],
  [{ metricsPort: 70_000 }, "metricsPort", "a whole number from 0 to 65535"],
  [{ precision: "half" }, "precision", "one of auto, fp32, fp16, int8"],
  [{ fleet: 7 }, "fleet", "of type string"],
])("%j is refused, with what it must be", (wrong, name, cure) => {
  const refusal = { code: "bad_usage", message: expect.stringContaining(name), cure: `it must be ${cure}` };
  expect(() => withDefaults(workerSettings, { ...given, ...wrong })).toThrow(expect.objectContaining(refusal));
});
