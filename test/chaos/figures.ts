/** What a chaos test has counted, kept for the table in `docs/reliability.md`. */
import { appendFile, mkdir } from "node:fs/promises";
import { dirname } from "node:path";

export interface Figures {
  readonly fault: string;
  readonly seed: number;
  readonly injected: number;
  readonly rows: number;
  readonly lost: number;
  readonly doubled: number;
  /** Rows that nobody asked for, or whose vectors, texts or digests are not what they should be. */
  readonly wrong: number;
  /** What repeats it. */
  readonly command: string;
  /** From each measured fault until what it held up went on. */
  readonly recoveredMs: readonly number[];
}

/** Set by `npm run test:chaos`, which prints the table at its end. */
const FILE = process.env["CHAOS_FIGURES"];

export async function writeFigures(figures: Figures): Promise<void> {
  if (FILE === undefined) return;
  await mkdir(dirname(FILE), { recursive: true });
  await appendFile(FILE, `${JSON.stringify(figures)}\n`);
}

export interface CountedIds {
  readonly rows: number;
  readonly lost: number;
  readonly doubled: number;
  /** Ids that nobody asked for. */
  readonly strange: number;
}

export function countIds(wanted: readonly string[], found: readonly string[]): CountedIds {
  const times = new Map(wanted.map((id) => [id, 0]));
  let strange = 0;
  for (const id of found) {
    const before = times.get(id);
    if (before === undefined) strange++;
    else times.set(id, before + 1);
  }
  const counts = [...times.values()];
  const lost = counts.filter((count) => count === 0).length;
  const doubled = counts.reduce((sum, count) => sum + Math.max(0, count - 1), 0);
  return { rows: found.length, lost, doubled, strange };
}
