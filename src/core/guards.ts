/** Limits beyond which a run is held: it is not sealed until a person agrees. */
import type { ClosedRecord, Guards, Limit, RunRecord } from "./contracts.ts";

/** Limits that apply without `--max-rejects` and `--max-deletes`. */
export const DEFAULT_GUARDS: Guards = { maxRejects: "50%", maxDeletes: "10%" };

/** The reason why a run is held: the count, its total, and the limit. */
export interface Hold {
  readonly guard: keyof Guards;
  readonly found: number;
  readonly of: number;
  readonly limit: Limit;
}

/** @returns Null when the run is within its guards, or has none. */
export function holdOf(record: Pick<RunRecord, "guards">, closed: ClosedRecord): Hold | null {
  const { guards } = record;
  if (guards === undefined) return null;
  const rejects = { guard: "maxRejects", found: closed.rejects, of: closed.documents } as const;
  const deletes = { guard: "maxDeletes", found: closed.base?.removed ?? 0, of: closed.base?.documents ?? 0 } as const;
  for (const each of [rejects, deletes]) {
    const limit = guards[each.guard];
    if (exceeds(limit, each.found, each.of)) return { ...each, limit };
  }
  return null;
}

/**
 * Whether a count is above a limit. A share never forbids a single document while others remain: in a small corpus one
 * document exceeds most shares.
 */
export function exceeds(limit: Limit, found: number, of: number): boolean {
  if (typeof limit === "number") return found > limit;
  if (found === 1 && of > 1) return false;
  return found * 100 > of * Number.parseFloat(limit);
}

/** One sentence for people. */
export function sayHold({ guard, found, of, limit }: Hold): string {
  return guard === "maxRejects"
    ? `${found} of ${of} documents were rejected, more than --max-rejects ${limit} allows`
    : `${found} of the base's ${of} documents are no longer in the corpus, more than --max-deletes ${limit} allows`;
}
