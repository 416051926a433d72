/// <reference lib="dom" />
/// <reference lib="dom.iterable" />
/** The dashboard in a real browser: it follows a run, acts behind the token, and can be used without a mouse. */
import { randomUUID } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, inject, test } from "vitest";
import { describeInBrowser, type OpenPage, openPage } from "../fixtures/browser.ts";
import { cli, startCli } from "../fixtures/cli.ts";
import { startControl, type StartedControl, TOKEN } from "../fixtures/control.ts";
import { makeCorpus } from "../fixtures/made-corpus.ts";

/** For people to look at. */
const SCREENSHOTS = fileURLToPath(new URL("../../out/screenshots", import.meta.url));

describeInBrowser("the dashboard", () => {
  let folder = "";
  let common: string[] = [];
  let control: StartedControl;
  let light: OpenPage;

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "embedfleet-dashboard-"));
    const corpus = join(folder, "corpus.jsonl");
    await writeFile(corpus, `${makeCorpus({ documents: 60, seed: 11 })}{"id":"no <b>text</b>"}\n`);
    common = ["--out", `file://${join(folder, "out")}`, "--redis", inject("redisUrl"), "--fleet", randomUUID()];
    for (const run of ["first", "second"])
      await cli(["enqueue", corpus, ...common, "--run", run, "--heads", "dense", "--log-level", "error"]);
    control = await startControl(common);
    light = await openPage({ url: `${control.url}/#token=${TOKEN}`, scheme: "light" });
  });
  afterAll(async () => {
    await light?.close();
    await control?.stop();
    await rm(folder, { recursive: true, force: true });
  });

  test("shows the runs, what they wait for, and takes the token out of the address", async () => {
    const { page } = light;
    await page.getByRole("heading", { name: "second" }).waitFor();
    expect(page.url()).not.toContain(TOKEN);
    const card = page.getByRole("article", { name: "first" });
    expect(await card.innerText()).toContain("0 of 60");
    expect(await card.innerText()).toContain("unknown: no worker is active");
    expect(await page.getByText("live,").count()).toBe(1);
  });

  test("can be used with a keyboard and a screen reader", async () => {
    const { page } = light;
    for (const role of ["banner", "main", "contentinfo", "navigation"] as const)
      expect(await page.getByRole(role).count(), role).toBe(1);
    expect(await page.getByRole("heading", { level: 1 }).innerText()).toContain("embedfleet");
    expect(await page.getByRole("progressbar", { name: "Tokens of run first" }).count()).toBe(1);
    // Nothing that moves all the time is in a live region.
    expect(await page.locator("[aria-live]").count()).toBe(1);
    await page.keyboard.press("Tab");
    expect(await page.evaluate(() => document.activeElement?.textContent)).toBe("Skip to the fleet");
    await page.keyboard.press("Tab");
    const outline = await page.evaluate(() => getComputedStyle(document.activeElement!).outlineWidth);
    expect(outline).toBe("3px");
    const unnamed = await page.evaluate(() =>
      [...document.querySelectorAll("button, a, select, input, [role=img]")]
        .filter(
          (node) =>
            !(node.getAttribute("aria-label") ?? node.textContent)?.trim() &&
            !(node as HTMLInputElement).labels?.length,
        )
        .map((node) => node.outerHTML),
    );
    expect(unnamed).toEqual([]);
    const tables = await page.evaluate(
      () =>
        [...document.querySelectorAll("table")].filter((table) => table.querySelector("thead th[scope=col]") === null)
          .length,
    );
    expect(tables).toBe(0);
  });

  test.each(["light", "dark"] as const)("text can be read in the %s theme", async (scheme) => {
    const { page } = light;
    await page.emulateMedia({ colorScheme: scheme });
    await page.locator(`html[data-theme=${scheme}]`).waitFor();
    await page.screenshot({ path: join(SCREENSHOTS, `dashboard-${scheme}.png`), fullPage: true });
    expect(await page.evaluate(worstContrast)).toBeGreaterThanOrEqual(4.5);
  });

  test("what was refused is listed as text, never as markup", async () => {
    const { page } = light;
    await page.getByLabel("Run", { exact: true }).selectOption("first");
    await page.getByRole("button", { name: "Show" }).click();
    await page.getByRole("rowheader", { name: "no <b>text</b>" }).waitFor();
  });

  test("cancels after a question, and keeps focus where it was while figures move", async () => {
    const { page } = light;
    await page.getByRole("button", { name: "Cancel second" }).click();
    const dialog = page.getByRole("dialog", { name: "Cancel second?" });
    await page.keyboard.press("Escape");
    await dialog.waitFor({ state: "hidden" });
    await page.getByRole("button", { name: "Cancel second" }).click();
    await page.getByRole("button", { name: "Cancel the run" }).click();
    await page.getByText("second is cancelled;").waitFor();
    await page.getByRole("article", { name: "second" }).waitFor({ state: "detached" });
    expect(await page.getByRole("row", { name: /^second cancelled/ }).count()).toBe(1);
  });

  test("follows a worker to the seal", async () => {
    const { page } = light;
    const resume = page.getByRole("button", { name: "Resume first" });
    await resume.focus();
    const live = page.getByText(/^live, /);
    // It is drawn anew with every look at the fleet, and the button is still the one that had the focus.
    for (let looks = 0; looks < 2; looks++) {
      const clock = await live.innerText();
      await expect.poll(() => live.innerText(), { timeout: 20_000 }).not.toBe(clock);
    }
    expect(await resume.evaluate((node) => node === document.activeElement)).toBe(true);
    const worker = startCli(["work", ...common, "--threads", "1", "--log-level", "error"]);
    await page.getByRole("cell", { name: "cpu" }).waitFor();
    await page.getByRole("row", { name: /^first sealed/ }).waitFor({ timeout: 60_000 });
    expect(await page.locator("#announce").innerText()).toContain("Run first is");
    worker.child.kill("SIGTERM");
    await worker.finished;
  });

  test("failed jobs are one row for each reason, above everything else of their run", async () => {
    const broken = [...common, "--run", "broken", "--heads", "dense", "--log-level", "silent"];
    await cli(["enqueue", join(folder, "corpus.jsonl"), ...broken]);
    await rm(join(folder, "out/runs/broken/plan/w000000.arrows"));
    await cli(["work", ...common, "--threads", "1", "--exit-when-done", "--log-level", "silent"]);
    const card = light.page.getByRole("article", { name: "broken" });
    await card.getByText("jobs failed").waitFor();
    const reasons = await card.locator(".failures tbody tr").allInnerTexts();
    expect(reasons).toEqual([expect.stringMatching(/^\d+\s+there is no object .*w000000.arrows\s+w000000-s\d{4}$/)]);
    const said = await card.innerText();
    expect(said).toContain("embedfleet resume broken --out file://");
    expect(said.indexOf("jobs failed")).toBeLessThan(said.indexOf("Tokens"));
    expect(said).not.toContain("a worker: none is active");
    await light.page.screenshot({ path: join(SCREENSHOTS, "dashboard-failures.png"), fullPage: true });
  });

  test("locked, it asks for the token and goes on with it; the raw queues open from it", async () => {
    const locked = await openPage({ url: control.url, scheme: "dark" });
    try {
      const { page } = locked;
      await page.getByRole("dialog", { name: "Show the token" }).waitFor();
      await page.getByRole("textbox", { name: "Token" }).fill(TOKEN);
      await page.keyboard.press("Enter");
      await page.getByRole("row", { name: /^first sealed/ }).waitFor();
      await page.getByRole("link", { name: "Raw queues" }).click();
      await page.getByText("embedfleet queues").first().waitFor();
    } finally {
      await locked.close();
    }
  });

  test("no script failed and nothing was fetched from elsewhere", () => {
    expect(light.complaints).toEqual([]);
  });
});

/** Runs in the page: the least contrast of any visible text with the ground behind it. */
function worstContrast(): number {
  const parse = (colour: string): number[] => (colour.match(/[\d.]+/g) ?? []).map(Number);
  const luminance = ([r = 0, g = 0, b = 0]: number[]): number => {
    const linear = [r, g, b].map((value) => {
      const share = value / 255;
      return share <= 0.03928 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * linear[0]! + 0.7152 * linear[1]! + 0.0722 * linear[2]!;
  };
  const groundOf = (node: Element | null): number[] => {
    for (let at = node; at !== null; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || (colour[3] ?? 1) > 0.99) return colour;
    }
    return [255, 255, 255];
  };
  let worst = Infinity;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let text = walker.nextNode(); text !== null; text = walker.nextNode()) {
    const parent = text.parentElement;
    if (parent === null || text.textContent!.trim() === "" || !parent.checkVisibility()) continue;
    const style = getComputedStyle(parent);
    const isSvg = parent.namespaceURI!.endsWith("svg");
    const pair = [luminance(parse(isSvg ? style.fill : style.color)), luminance(groundOf(parent))];
    worst = Math.min(worst, (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05));
  }
  return worst;
}
