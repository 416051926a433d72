/** The settings that say how files are written: from the command line to the options of a run. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { scheduleOptionsSchema } from "../../../src/core/schedule.ts";
import { selectionOf } from "../../../src/fleet/open-ports.ts";
import { planSettings, type PlanSettings } from "../../../src/fleet/settings.ts";
import { sectionsOf } from "../../../producers/parts/parts.ts";
import { listInput } from "../../../producers/sources/objects.ts";
import { readItems } from "../../conformance/record-source.suite.ts";
import { parsed } from "../../fixtures/parsed-settings.ts";
import { SELECTION } from "../../fixtures/run-options.ts";
import { brief, collect } from "../../fixtures/sources.ts";
import { tempFolder } from "../../fixtures/temp-folder.ts";

const NEEDED = ["corpus", "--out", "out"];

function settingsOf(args: readonly string[], env: Record<string, string> = {}): PlanSettings {
  return planSettings.parse(
    Object.fromEntries(
      Object.entries(parsed("enqueue", [...NEEDED, ...args], env)).filter(([name]) => name in planSettings.shape),
    ),
  );
}

describe("settings of tables", () => {
  test("none is recorded by default, as in runs of earlier versions", () => {
    const selection = selectionOf(settingsOf([]));
    expect(Object.keys(selection)).toEqual(["format", "idField", "textFields", "where", "sample", "limit", "keep"]);
  });

  test("all reach the run's options, and a schedule's", () => {
    const args = ["--delimiter", "\\t", "--quote", "none", "--escape", "\\", "--no-header", "--columns", "id, text"];
    const settings = settingsOf([...args, "--generate-id", "row", "--clean", "all"]);
    expect(settings).toMatchObject({ noHeader: true, columns: ["id", "text"] });
    expect(selectionOf(settings)).toMatchObject({
      delimiter: "\t",
      quote: "none",
      escape: "\\",
      columns: ["id", "text"],
      generateId: "row",
      clean: "all",
    });
    const { delimiter, quote, escape, noHeader, columns, generateId, clean } = settings;
    const options = { delimiter, quote, escape, noHeader, columns, generateId, clean };
    expect(scheduleOptionsSchema.parse(options)).toEqual(options);
  });

  test("from the environment", () => {
    const env = { EMBEDFLEET_NO_HEADER: "true", EMBEDFLEET_COLUMNS: "id,text", EMBEDFLEET_DELIMITER: "\\x01" };
    expect(settingsOf([], env)).toMatchObject({ noHeader: true, columns: ["id", "text"], delimiter: "\x01" });
    expect(settingsOf([], { EMBEDFLEET_NO_HEADER: "false" })).toMatchObject({ noHeader: false });
  });

  test.each([
    [["--no-header"], /the columns have no names/],
    [["--columns", "id,text"], /has no effect/],
    [["--delimiter", ";", "--quote", ";"], /different characters/],
  ])("%s is refused", (args, message) => {
    expect(() => selectionOf(settingsOf(args))).toThrow(message);
  });

  test.each([
    ["--delimiter", "ab"],
    ["--delimiter", "\n"],
    ["--quote", "never"],
    ["--escape", "é"],
    ["--clean", "some"],
    ["--generate-id", "uuid"],
  ])("%s %j is refused", (...args) => {
    expect(() => settingsOf(args)).toThrow(/invalid|must be/i);
  });
});

describe("ids that are made", () => {
  const ROWS = [
    ["rows.csv", "text\nx\ny\n"],
    ["rows.jsonl", '{"text":"x"}\n{"text":"y"}\n'],
    ["rows.json", '[{"text":"x"},\n{"text":"y"}]'],
  ] as const;

  test("are of the path below the input and the row, in every format", async () => {
    const folder = await tempFolder();
    for (const [name, content] of ROWS) await writeFile(join(folder, name), content);
    expect((await readItems([folder], { generateId: "row" })).map(brief)).toEqual(
      ["rows.csv", "rows.json", "rows.jsonl"].flatMap((name) => [`${name}:1=x`, `${name}:2=y`]),
    );
  });

  test("of rows are not made of lines in a range, which does not know its first one", async () => {
    const path = join(await tempFolder(), "rows.jsonl");
    await writeFile(path, '{"text":"some text"}\n'.repeat(1000));
    const rangesOf = async (options: object): Promise<boolean> => {
      const objects = listInput(path, {
        format: "auto",
        stdin: process.stdin,
        bucket: () => Promise.reject(new Error()),
      });
      const reading = { ...SELECTION, maxDocumentBytes: 1024, ...options };
      const sections = await collect(sectionsOf({ objects, options: reading, partBytes: 1024 }));
      return sections.length > 1;
    };
    expect(await rangesOf({})).toBe(true);
    expect(await rangesOf({ generateId: "row" })).toBe(false);
  });
});
