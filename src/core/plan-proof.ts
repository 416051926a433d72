/** Proof that a run's windows, in sequence, are the plan that its closed record describes. */
import { createHash, hash } from "node:crypto";
import type { ClosedRecord, WindowPlan } from "./contracts.ts";
import { shardId, windowId } from "./layout.ts";

/** The counts of a closed record. */
export type PlanTotals = Pick<ClosedRecord, "windows" | "documents" | "rows" | "tokens" | "shards" | "rejects">;

export class PlanProof {
  readonly #totals = { windows: 0, documents: 0, rows: 0, tokens: 0, shards: 0, rejects: 0 };
  readonly #plans = createHash("sha256");

  get totals(): Readonly<PlanTotals> {
    return this.#totals;
  }

  /** SHA-256 over the SHA-256 of each plan's bytes, in the windows' order. */
  get plansSha256(): string {
    return this.#plans.copy().digest("hex");
  }

  /**
   * Adds the next window.
   * @param bytes The plan as stored.
   * @returns What is wrong with the window by itself or in its position; null for a valid one.
   */
  add(plan: WindowPlan, bytes: Uint8Array): string | null {
    const fault = faultOf(plan, this.#totals);
    this.#plans.update(hash("sha256", bytes, "buffer"));
    this.#totals.windows++;
    this.#totals.documents += plan.documents;
    this.#totals.rows += plan.rows;
    this.#totals.tokens += plan.tokens;
    this.#totals.shards += plan.shards.length;
    this.#totals.rejects += plan.rejects;
    return fault;
  }

  /** A difference between the windows and the record; null when all windows were added and match it. */
  disagreement(closed: ClosedRecord): string | null {
    for (const [name, found] of Object.entries(this.#totals)) {
      const recorded = closed[name as keyof PlanTotals];
      if (found !== recorded) return `its windows have ${found} ${name}, but plan/closed.json records ${recorded}`;
    }
    if (closed.plansSha256 === undefined || closed.plansSha256 === this.plansSha256) return null;
    return `its windows have the digest ${this.plansSha256}, but plan/closed.json records ${closed.plansSha256}`;
  }
}

function faultOf(plan: WindowPlan, before: PlanTotals): string | null {
  if (plan.window !== windowId(before.windows)) return `it is the plan of ${plan.window}`;
  if (plan.firstDocument !== before.documents)
    return `it begins at document ${plan.firstDocument}, but ${before.documents} were planned before it`;
  const rows = plan.shards.reduce((sum, shard) => sum + shard.rows, 0);
  if (rows !== plan.rows) return `its shards have ${rows} rows, but it records ${plan.rows}`;
  const tokens = plan.shards.reduce((sum, shard) => sum + shard.tokens, 0);
  if (tokens !== plan.tokens) return `its shards have ${tokens} tokens, but it records ${plan.tokens}`;
  const misnamed = plan.shards.find(({ shard }, index) => shard !== shardId(plan.window, index));
  return misnamed === undefined ? null : `its shard ${misnamed.shard} is out of place`;
}
