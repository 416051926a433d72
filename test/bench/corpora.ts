/** Texts that the benchmarks read. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

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
