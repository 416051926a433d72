/** Failed jobs grouped by reason. Pure. */
import { count } from "./format-figures.ts";
import type { JobFailure } from "./ports.ts";

/** Jobs of one run that failed for the same reason: one of them, and their number. */
export interface FailureGroup extends JobFailure {
  readonly jobs: number;
}

/** Maximum number of a run's failed jobs that are read for an overview; more would not change what it says. */
export const COUNTED_FAILURES = 10_000;

const SHOWN_GROUPS = 3;

/** Groups failures whose reasons differ only in ids, paths, quoted names and numbers; the largest group comes first. */
export function groupFailures(failures: readonly JobFailure[]): FailureGroup[] {
  const groups = new Map<string, { shard: string; reason: string; jobs: number }>();
  for (const { shard, reason } of failures) {
    const kind = kindOf(reason);
    const group = groups.get(kind);
    if (group === undefined) groups.set(kind, { shard, reason, jobs: 1 });
    else group.jobs++;
  }
  return [...groups.values()].sort((a, b) => b.jobs - a.jobs);
}

/** Quoted text, also of several words. An apostrophe inside a word, such as in "run's", is no quote. */
const QUOTED = /"[^"]*"|`[^`]*`|(?<![\p{L}\p{N}])'[^']*'(?![\p{L}\p{N}])/gu;
/** What a word has that is a number, an id, a path or an address. */
const VARYING = /[\p{N}/\\@]/u;
/** What stands for any number of varying words, so that lists of different lengths are alike. */
const VARIED = "*";

/** The words of a reason without the varying ones: equal for reasons of the same kind. */
function kindOf(reason: string): string {
  const words = reason.replace(QUOTED, VARIED).split(/\s+/);
  const kind: string[] = [];
  for (const word of words) {
    const isVaried = word.includes(VARIED) || VARYING.test(word);
    if (!isVaried) kind.push(word);
    else if (kind.at(-1) !== VARIED) kind.push(VARIED);
  }
  return kind.join(" ");
}

/** `w000003-s0001: the reason (and 16 more jobs like it)`. */
export function sayGroup({ shard, reason, jobs }: FailureGroup): string {
  const more = jobs - 1;
  return `${shard}: ${reason}${more === 0 ? "" : ` (and ${plural(more, "more job")} like it)`}`;
}

/** The largest groups of failures, as text. */
export function sayFailures(failures: readonly JobFailure[]): string {
  const groups = groupFailures(failures);
  const named = groups.slice(0, SHOWN_GROUPS).map(sayGroup).join("; ");
  const more = groups.length - SHOWN_GROUPS;
  return named + (more > 0 ? `; and ${plural(more, "more reason")}` : "");
}

function plural(number: number, what: string): string {
  return `${count(number)} ${what}${number === 1 ? "" : "s"}`;
}
