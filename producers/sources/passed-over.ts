/** Counts the files of a corpus: those that are read, and by kind those that are passed over. */
import { count } from "../../src/core/format-figures.ts";
import type { SourceCounts } from "../../src/run/run-progress.ts";

/** Kinds that are counted separately; names come from other people, and there may be millions of them. */
const MAX_KINDS = 100;
const OTHER = "file of another kind";

/** Counts during one reading of a corpus. */
export class SourceCounter {
  #read = 0;
  readonly #passed = new Map<string, number>();

  countRead(): void {
    this.#read++;
  }

  passOver(kind: string): void {
    const counted = this.#passed.has(kind) || this.#passed.size < MAX_KINDS ? kind : OTHER;
    this.#passed.set(counted, (this.#passed.get(counted) ?? 0) + 1);
  }

  get counts(): SourceCounts {
    return { read: this.#read, passedOver: Object.fromEntries(this.#passed) };
  }
}

/** A line such as `12 read; passed over: 3 .pdf, 2 hidden files`. */
export function sayCounts({ read, passedOver }: SourceCounts): string {
  const kinds = Object.entries(passedOver).sort(([a, n], [b, m]) => m - n || (a < b ? -1 : 1));
  if (kinds.length === 0) return `${count(read)} read`;
  return `${count(read)} read; passed over: ${kinds.map(([kind, n]) => `${count(n)} ${n === 1 ? kind : plural(kind)}`).join(", ")}`;
}

/** Only kinds that begin with a word of ours have a plural; names such as `.pdf` or `_temporary/` do not. */
function plural(kind: string): string {
  return kind
    .replace(/^((?:hidden|special) )?(file|folder|symbolic link)\b/, "$1$2s")
    .replace("s that leads ", "s that lead ");
}
