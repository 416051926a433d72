/** Texts that the benchmarks read. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { logNormalLengths } from "./bench.ts";

const root = fileURLToPath(new URL("../../..", import.meta.url));
/** Real corpora, used where they lie beside the checkout. */
const NATURAL = { XQuAD: "xquad-paragraphs.jsonl", "mixed lengths": "xquad-mixed-lengths.jsonl" };

export function naturalTexts(): [name: string, texts: string[]][] {
  return naturalFiles().map(([name, file]) => [name, readTexts(file)]);
}

function naturalFiles(): [name: string, file: string][] {
  const folders = [join(root, "../shared/corpora"), join(root, "../../shared/corpora")];
  return Object.entries(NATURAL).flatMap(([name, file]): [string, string][] => {
    const found = folders.map((folder) => join(folder, file)).find((path) => existsSync(path));
    return found === undefined ? [] : [[name, found]];
  });
}

function readTexts(file: string): string[] {
  return readFileSync(file, "utf8")
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => (JSON.parse(line) as { text: string }).text);
}

/** Documents of about `chars` characters together, of log-normal lengths, cut from the installed packages' Markdown. */
export function documents(chars: number): string[] {
  const source = packageText();
  const lengths = logNormalLengths({ rows: Math.ceil(chars / 400), median: 800, sigma: 1, maxTokens: 60_000, seed: 3 });
  const texts: string[] = [];
  let at = 0;
  for (let made = 0; made < chars; made += texts.at(-1)!.length) {
    const length = lengths[texts.length % lengths.length]!;
    if (at + length > source.length) at = (at + length) % 997;
    texts.push(source.slice(at, at + length).toWellFormed());
    at += length;
  }
  return texts;
}

/** Text that every clone has. */
function packageText(): string {
  const folder = join(root, "node_modules");
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && /\.md$/i.test(entry.name))
    .map((entry) => join(entry.parentPath, entry.name))
    .sort()
    .map((file) => readFileSync(file, "utf8"))
    .join("\n\n");
}
