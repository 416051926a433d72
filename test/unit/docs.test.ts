/** What the documentation points at is there: files and headings, commands with their flags, and variables. */
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import type { Command } from "commander";
import MarkdownIt, { type Token } from "markdown-it";
import { describe, expect, test } from "vitest";
import { buildProgram } from "../../src/cli/program.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const markdown = new MarkdownIt({ html: true });
const program = buildProgram();
/** Sign webhooks and schedules; they have no flag. */
const WITHOUT_FLAG = ["EMBEDFLEET_WEBHOOK_SECRET", "EMBEDFLEET_SCHEDULE_SECRET"];

const pages = [
  "README.md",
  "ARCHITECTURE.md",
  "SECURITY.md",
  "CONTRIBUTING.md",
  ...readdirSync(join(root, "docs"), { recursive: true, encoding: "utf8" })
    .filter((path) => path.endsWith(".md"))
    .map((path) => join("docs", path)),
];

function textOf(page: string): string {
  return readFileSync(join(root, page), "utf8");
}

function tokensOf(page: string): Token[] {
  return markdown.parse(textOf(page), {}).flatMap((token) => [token, ...(token.children ?? [])]);
}

/** Of its headings, as forges make them: lower case, punctuation gone, spaces as hyphens, repeats numbered. */
function anchorsOf(page: string): Set<string> {
  const tokens = tokensOf(page);
  const anchors = new Set(Array.from(textOf(page).matchAll(/<a id="([^"]+)">/g), ([, id]) => id!));
  for (const [i, { type }] of tokens.entries()) {
    if (type !== "heading_open") continue;
    const words = (tokens[i + 1]!.children ?? []).map(({ content }) => content).join("");
    const plain = words
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N}\s_-]/gu, "")
      .replaceAll(" ", "-");
    let anchor = plain;
    for (let repeat = 1; anchors.has(anchor); repeat++) anchor = `${plain}-${repeat}`;
    anchors.add(anchor);
  }
  return anchors;
}

/** Of links and pictures. */
function linksOf(page: string): string[] {
  const found = tokensOf(page).flatMap((token) => token.attrGet("href") ?? token.attrGet("src") ?? []);
  return found.map(String);
}

function brokenLinksOf(page: string): string[] {
  const known = new Map<string, Set<string>>();
  return linksOf(page).filter((link) => {
    if (/^[a-z]+:/.test(link)) return false;
    const [path = "", anchor] = decodeURI(link).split("#");
    const target = path === "" ? join(root, page) : resolve(root, dirname(page), path);
    if (!existsSync(target)) return true;
    if (anchor === undefined) return false;
    const anchors = known.get(target) ?? anchorsOf(target.slice(root.length));
    known.set(target, anchors);
    return !anchors.has(anchor);
  });
}

/** The words after `embedfleet`, of every call in a fenced block or in inline code. */
function callsOf(page: string): string[][] {
  const codes = tokensOf(page).filter(
    ({ type, info }) => type === "code_inline" || (type === "fence" && /^(?:sh|bash|console)?$/.test(info.trim())),
  );
  const lines = codes.flatMap(({ content }) => content.replaceAll("\\\n", " ").split("\n"));
  return lines.flatMap(callsIn);
}

function callsIn(line: string): string[][] {
  const words = line.replace(/(?:^|\s)#.*$/, "").match(/(?:[^\s"';]|"[^"]*"|'[^']*')+|;/g) ?? [];
  const calls: string[][] = [];
  let call: string[] | undefined;
  // Nothing but a prompt or variables may stand before a call; in `helm install embedfleet` it is only a name.
  let mayBegin = true;
  for (const word of words) {
    if (word === "embedfleet" && mayBegin) calls.push((call = []));
    else if (/^(?:;|&&|\|\|?|&)$/.test(word)) call = undefined;
    else call?.push(word);
    mayBegin = /^(?:\$|[A-Z_0-9]+=.*|…|;|&&|\|\|?|&)$/s.test(word);
  }
  return calls.filter((words) => words.length > 0);
}

/** @returns What is wrong with a call; null when nothing is. */
function faultOf(words: readonly string[]): string | null {
  let command: Command = program;
  let at = 0;
  for (; command.commands.length > 0; at++) {
    const next = command.commands.find((each) => each.name() === words[at]);
    if (next === undefined) return words[at] === "--help" ? null : `there is no command ${words[at] ?? ""}`;
    command = next;
  }
  for (; at < words.length; at++) {
    const word = words[at]!;
    if (!word.startsWith("--") || word === "--help") continue;
    const option = command.options.find(({ long }) => long === word);
    if (option === undefined) return `${command.name()} has no ${word}`;
    if (!option.required) continue;
    const value = words[++at]?.replaceAll(/^["']|["']$/g, "");
    if (value === undefined || value.startsWith("--")) return `${word} lacks its value`;
    if (/^[A-Z]+$|^[$<]|[|…]/.test(value)) continue;
    try {
      option.parseArg?.(value, undefined as never);
    } catch (error) {
      return `${word} ${value}: ${String(error)}`;
    }
  }
  return null;
}

function variablesOf(command: Command): string[] {
  return [...command.options.flatMap(({ envVar }) => envVar ?? []), ...command.commands.flatMap(variablesOf)];
}

describe.each(pages)("%s", (page) => {
  test("links to files and headings that are there", () => {
    expect(brokenLinksOf(page)).toEqual([]);
  });

  test("shows commands as they are", () => {
    const faults = callsOf(page).map((words) => ({ call: words.join(" "), fault: faultOf(words) }));
    expect(faults.filter(({ fault }) => fault !== null)).toEqual([]);
  });

  test("names variables that are read", () => {
    const known = new Set([...variablesOf(program), ...WITHOUT_FLAG]);
    const named = textOf(page).match(/\bEMBEDFLEET_[A-Z0-9_]+/g) ?? [];
    expect(named.filter((name) => !known.has(name))).toEqual([]);
  });
});

test("a wrong command, flag or value is found", () => {
  const faults = callsIn("$ A=b embedfleet wrok … embedfleet work --nope embedfleet; embedfleet run --top # x").map(
    faultOf,
  );
  expect(faults).toEqual(["there is no command wrok", "work has no --nope", "run has no --top"]);
  expect(faultOf(["search", "out", "--top", "none"])).toContain("--top none");
  expect(faultOf(["run", "x", "--precision", "half"])).toContain("--precision half");
  expect(callsIn("helm install embedfleet infra/helm/embedfleet")).toEqual([]);
  expect(callsOf("README.md").length).toBeGreaterThan(10);
});

test("the index names every page", () => {
  const named = new Set(linksOf("docs/README.md").map((link) => join("docs", link)));
  expect(pages.filter((page) => page.startsWith("docs/") && page !== "docs/README.md" && !named.has(page))).toEqual([]);
});

test("what docs.mjs generates is up to date", () => {
  const args = [join(root, "infra/setup/docs.mjs"), "--check"];
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: "utf8" });
  expect(status, stdout + stderr).toBe(0);
});
