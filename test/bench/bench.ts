/** What every benchmark gives back, and what several of them need. */

export interface Table {
  readonly title: string;
  readonly columns: readonly string[];
  readonly rows: readonly (readonly (string | number)[])[];
}

export interface BenchReport {
  /** For machines: whatever was measured, raw. */
  readonly figures: unknown;
  readonly tables: readonly Table[];
  /** SVG by file name, without its ending. */
  readonly charts: Readonly<Record<string, string>>;
  /** What the reader must know to read the tables. */
  readonly notes: readonly string[];
}

export interface BenchParams {
  /** `small` shows within a minute or two that it works; the documentation's figures are from `full`. */
  readonly size: "small" | "full";
  /** Of `known`: so many documents, in place of what the size says. */
  readonly documents?: number;
}

export interface Bench {
  readonly title: string;
  run(params: BenchParams): Promise<BenchReport>;
}

/**
 * Runs variants in turn, round after round, so that whatever else the machine does falls on all of them
 * alike. The first round warms up and does not count.
 *
 * @returns Seconds of each round, by variant.
 */
export async function alternate<Name extends string>(
  variants: Readonly<Record<Name, () => unknown>>,
  rounds: number,
): Promise<Record<Name, number[]>> {
  const names = Object.keys(variants) as Name[];
  const seconds = Object.fromEntries(names.map((name) => [name, [] as number[]])) as Record<Name, number[]>;
  for (let round = 0; round <= rounds; round++) {
    for (const name of names) {
      const startedMs = performance.now();
      await variants[name]();
      if (round > 0) seconds[name].push((performance.now() - startedMs) / 1000);
    }
  }
  return seconds;
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** The same numbers each time: Mulberry32. @returns Numbers in [0, 1). */
export function randomNumbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Row lengths as corpora of documents have them: many short ones and a long tail, cut at `maxTokens`. */
export function logNormalLengths(
  params: Readonly<{ rows: number; median: number; sigma: number; maxTokens: number; seed: number }>,
): number[] {
  const random = randomNumbers(params.seed);
  return Array.from({ length: params.rows }, () => {
    const normal = Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
    return Math.min(params.maxTokens, Math.max(3, Math.round(params.median * Math.exp(params.sigma * normal))));
  });
}

export function percent(ratio: number): string {
  return `${(ratio * 100).toFixed(1)} %`;
}

export function whole(value: number): string {
  return Math.round(value).toLocaleString("en-US");
}
