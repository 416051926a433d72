/** Environment variables say what the flags say: each of them, for every command that takes it, and nothing else. */
import { execFileSync } from "node:child_process";
import { describe, expect, test } from "vitest";
import { z } from "zod";
import { SettingOption } from "../../src/cli/options.ts";
import { buildProgram } from "../../src/cli/program.ts";
import { bareSchema } from "../../src/fleet/check-settings.ts";
import { everyCommand, parsed } from "../fixtures/parsed-settings.ts";

const program = buildProgram({});
const COMMANDS = [...everyCommand(program)];
const OPTIONS = COMMANDS.flatMap(([words, command]) =>
  command.options
    .filter((option) => option instanceof SettingOption)
    .map((option) => ({ words, command, option, long: option.long!, variable: option.envVar! })),
);

/** A value that is not the default. */
const SAMPLES: Readonly<Record<string, string>> = {
  "--heads": "sparse",
  "--where": "lang=en",
  "--sample": "0.5",
  "--max-rejects": "25%",
  "--max-deletes": "7",
  "--device": "cpu",
  "--precisions": "int8",
  "--weights": "1,2,3",
  "--at": "3,7",
  "--hub": "http://127.0.0.1:1",
  "--keep": "a,b",
  "--table": "text_of_a_test",
  "--delimiter": ";",
  "--quote": "'",
  "--escape": "%",
};

function sampleOf(option: SettingOption): string {
  if (option.argChoices !== undefined) return option.argChoices.findLast((each) => each !== option.defaultValue)!;
  return SAMPLES[option.long!] ?? (bareSchema(option.field) instanceof z.ZodNumber ? "17" : "text-of-a-test");
}

function flagOf({ option, long }: (typeof OPTIONS)[number]): string {
  return option.isBoolean() ? long : `${long}=${sampleOf(option)}`;
}

/** What a command needs, but for one option. */
function needed({ words, command, option }: (typeof OPTIONS)[number]): { words: string; args: string[] } {
  const others = command.options.filter((each) => each.mandatory && each.attributeName() !== option.attributeName());
  const flags = others.flatMap((each) => [each.long!, sampleOf(each as SettingOption)]);
  const args = command.registeredArguments.filter(({ required }) => required).map(() => "x");
  return { words, args: [...args, ...flags] };
}

describe.each(COMMANDS.map(([words]) => words))("%s", (words) => {
  const own = OPTIONS.filter((each) => each.words === words);

  test("takes each variable as its flag, which wins over it", () => {
    const [first] = own;
    const unset = parsed(words, [...needed(first!).args, ...(first!.option.mandatory ? [flagOf(first!)] : [])]);
    for (const each of own) {
      const { option, variable } = each;
      const { args } = needed(each);
      const value = option.isBoolean() ? "true" : sampleOf(option);
      const name = option.attributeName();
      const byFlag = parsed(words, [...args, flagOf(each)], { [variable]: "\0 no value of anything" });
      for (const one of [variable, ...option.formerVariables])
        expect(parsed(words, args, { [one]: value }), one).toEqual(byFlag);
      if (!option.mandatory)
        expect(byFlag[name], `${variable}=${value} must not be the default`).not.toEqual(unset[name]);
    }
  });

  test("a bad value in the environment is refused, with the variable's name and a cure", () => {
    for (const each of own.filter(({ option }) => isChecked(option))) {
      const env = { [each.variable]: "\0 no value of anything" };
      const refusal = expect.objectContaining({
        code: "bad_usage",
        message: expect.stringContaining(each.variable),
        cure: expect.stringContaining(each.long),
      });
      expect(() => parsed(words, needed(each).args, env), each.variable).toThrow(refusal);
    }
  });
});

/** The options of each setting. */
function byField(): Map<z.ZodType, (typeof OPTIONS)[number][]> {
  const groups = new Map<z.ZodType, (typeof OPTIONS)[number][]>();
  for (const each of OPTIONS) groups.set(each.option.field, [...(groups.get(each.option.field) ?? []), each]);
  return groups;
}

/** Whether not every text is a value. */
function isChecked(option: SettingOption): boolean {
  const bare = bareSchema(option.field);
  return option.isBoolean() || option.argChoices !== undefined || bare instanceof z.ZodNumber;
}

test("a variable means one thing: whatever reads it fills in the same setting", () => {
  const meanings = new Map<string, z.ZodType>();
  for (const { option, words } of OPTIONS) {
    for (const variable of [option.envVar!, ...option.formerVariables]) {
      expect(option.field === (meanings.get(variable) ?? option.field), `${variable} of ${words}`).toBe(true);
      meanings.set(variable, option.field);
    }
  }
});

test("a setting has one variable, which carries the command's name where one command alone takes it", () => {
  for (const [, all] of byField()) {
    const shown = all.filter(({ option }) => !option.hidden);
    expect(new Set(shown.map(({ variable }) => variable)).size, shown[0]!.variable).toBe(1);
    const [{ words, variable, long }] = shown as [(typeof OPTIONS)[number]];
    if (!variable.startsWith("EMBEDFLEET_")) continue;
    const plain = `EMBEDFLEET_${long.slice(2).replaceAll("-", "_").toUpperCase()}`;
    const carriesName = words.split(" ").some((word) => variable.startsWith(`EMBEDFLEET_${word.toUpperCase()}_`));
    if (shown.length === 1) expect(carriesName, `${variable} of ${words}`).toBe(true);
    else
      expect([
        plain,
        "EMBEDFLEET_QUERY_MODEL",
        "EMBEDFLEET_QUERY_PROMPT",
        "EMBEDFLEET_MODELS_PRECISION",
        "EMBEDFLEET_CACHE",
      ]).toContain(variable);
  }
});

test("settings of one field are of one name and help in every command", () => {
  for (const [, all] of byField()) {
    expect(new Set(all.map(({ option }) => option.attributeName())).size).toBe(1);
    expect(new Set(all.map(({ option }) => option.description)).size).toBe(1);
  }
});

test("the environment that a program is built with is the only one that is read", () => {
  const before = process.env["EMBEDFLEET_FLEET"];
  process.env["EMBEDFLEET_FLEET"] = "another";
  try {
    expect(parsed("status", ["--out", "x"])["fleet"]).toBe("default");
    expect(parsed("status", ["--out", "x"], { EMBEDFLEET_FLEET: "mine" })["fleet"]).toBe("mine");
  } finally {
    if (before === undefined) delete process.env["EMBEDFLEET_FLEET"];
    else process.env["EMBEDFLEET_FLEET"] = before;
  }
});

test("--tend-seconds and its variable are still taken for --reconcile-seconds", () => {
  for (const words of ["run", "work", "control"]) {
    const args = words === "run" ? ["x", "--out", "y"] : ["--out", "y"];
    expect(parsed(words, [...args, "--tend-seconds", "7"])["reconcileSeconds"]).toBe(7);
    expect(parsed(words, args, { EMBEDFLEET_TEND_SECONDS: "7" })["reconcileSeconds"]).toBe(7);
    expect(parsed(words, args, { EMBEDFLEET_TEND_SECONDS: "7", EMBEDFLEET_RECONCILE_SECONDS: "8" })).toMatchObject({
      reconcileSeconds: 8,
    });
    expect(parsed(words, args)["reconcileSeconds"]).toBe(30);
  }
});

test("options that may be repeated hold what was said each time, whatever their default is", () => {
  const twice = parsed("enqueue", ["x", "--out", "y", "--text-field", "title", "--text-field", "body,tail"]);
  expect(twice["textField"]).toEqual(["title", "body", "tail"]);
  expect(parsed("enqueue", ["x", "--out", "y"])["textField"]).toEqual(["text"]);
});

test.runIf(process.getuid?.() === 0)(
  "without HOME and an entry in passwd there is still help (needs root, to be nobody)",
  () => {
    const program = new URL("../../dist/src/cli/program.js", import.meta.url).href;
    const script = `
    const { buildProgram } = await import(${JSON.stringify(program)});
    process.seteuid(54321);
    console.log(buildProgram(process.env).commands.map((command) => command.helpInformation()).join(""));`;
    const args = ["--input-type=module", "-e", script];
    const said = execFileSync(process.execPath, args, { encoding: "utf8", env: { PATH: process.env["PATH"] } });
    expect(said).toContain("Usage: embedfleet run");
  },
);
