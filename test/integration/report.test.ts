/** The report of a real run: its figures are those of the manifest, and its page needs nothing else. */
import { writeFile } from "node:fs/promises";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { cli } from "../fixtures/cli.ts";
import { makeCorpus } from "../fixtures/made-corpus.ts";
import { tempFolder } from "../fixtures/temp-folder.ts";

test("figures add up to the run's, and what came with the corpus is text and never markup", async () => {
  const folder = await tempFolder();
  const corpus = join(folder, "corpus.jsonl");
  await writeFile(corpus, `${makeCorpus({ documents: 120, seed: 21 })}{"id":"</script><b>x</b>"}\n`);
  const out = `file://${join(folder, "out")}`;
  const run = ["run", corpus, "--out", out, "--run", "told", "--heads", "dense", "--json", "--log-level", "error"];
  const sealed = JSON.parse((await cli(run)).stdout);

  const file = join(folder, "report.html");
  const { code, stdout, stderr } = await cli(["report", "told", "--out", out, "--file", file, "--json"]);
  expect(stderr).toBe("");
  expect(code).toBe(0);
  const figures = JSON.parse(stdout);
  expect(figures.report).toMatchObject({ state: "sealed", rows: 120, realTokens: sealed.realTokens });
  const sum = (items: Record<string, number>[], key: string): number =>
    items.reduce((all, item) => all + item[key]!, 0);
  for (const parts of [figures.lengths, figures.workers]) {
    expect(sum(parts, "rows")).toBe(120);
    expect(sum(parts, "realTokens")).toBe(sealed.realTokens);
    expect(sum(parts, "paddedTokens")).toBe(sealed.paddedTokens);
  }
  expect(figures.workers[0].worker).toMatch(/-\d+$/);
  expect(figures.timeline.workers).toHaveLength(1);
  expect(Math.max(...figures.timeline.workers[0].busy)).toBeGreaterThan(0);
  expect(Object.keys(figures.stages)).toEqual(expect.arrayContaining(["load", "infer", "assemble"]));
  expect(Object.values(figures.rejectsByReason)).toEqual([1]);

  const page = await readFile(file, "utf8");
  expect(page).not.toContain("<b>x</b>");
  expect(page).toContain("&#60;b&#62;x");
  expect(page).not.toMatch(/(?:src|href)="/);
  expect(page.match(/<\/script>/g)).toHaveLength(1);
  const embedded = /<script type="application\/json" id="figures">([^]*?)<\/script>/.exec(page)![1]!;
  expect(JSON.parse(embedded)).toEqual(figures);
});

test("a run that is not there, and a place that cannot be written, are said plainly", async () => {
  const folder = await tempFolder();
  const missing = await cli(["report", "nobody", "--out", `file://${folder}`]);
  expect(missing.code).toBe(1);
  expect(missing.stderr).toContain('there is no run "nobody"');
});

test("an id that would command a terminal is shown by search and not obeyed, and JSON means the same", async () => {
  const folder = await tempFolder();
  const corpus = join(folder, "corpus.jsonl");
  const id = "\u001b]0;owned\u0007\u009b31m\u202egnp.exe\n";
  await writeFile(corpus, `${JSON.stringify({ id, text: "the only document \u001b[2J there is\u009b" })}\n`);
  const out = `file://${join(folder, "out")}`;
  await cli(["run", corpus, "--out", out, "--run", "told", "--heads", "dense", "--keep-text", "--log-level", "error"]);
  const found = await cli(["search", out, "document", "--text", "--log-level", "error"]);
  expect(found.stdout).toContain(String.raw`\u001b]0;owned\u0007\u009b31m\u202egnp.exe\u000a`);
  const asJson = await cli(["search", out, "document", "--text", "--json", "--log-level", "error"]);
  expect(JSON.parse(asJson.stdout)).toMatchObject([{ id }]);
  // oxlint-disable-next-line no-control-regex -- control characters are what must not be there
  const obeyed = /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202e]/;
  for (const { stdout } of [found, asJson]) expect(stdout).not.toMatch(obeyed);
});
