/**
 * The permissions of a schedule. Anyone who can write to the store can write a schedule, and the process that makes its
 * runs can read and reach more than they. So a schedule either is signed with the secret, or stays
 * within what the process was started with.
 */
import type { Schedule } from "../../core/schedule.ts";
import { FleetError, hasCode } from "../../core/errors.ts";
import { HookRule } from "./hook-rule.ts";
import { isSignedWith } from "./signature.ts";

/**
 * Resolves the links in a schedule's inputs, and finds the first input that lies below none of `allowed`. Links can
 * only be resolved where the files are, so an adapter does it.
 */
export type InputGuard = (
  inputs: readonly string[],
  allowed: readonly string[],
) => Promise<{ readonly inputs: string[] } | { readonly refused: string; readonly why: string }>;

/** The secret; null if there is none. */
export type ScheduleSecret = () => Promise<string | null>;

export interface PolicyParams {
  readonly secret: ScheduleSecret;
  readonly allowedInputs: InputGuard;
  /** Inputs that an unsigned schedule may read: folders and `s3://bucket/prefix`. */
  readonly inputs: readonly string[];
  /** The process's own folder of models, which an unsigned schedule may name. */
  readonly models: string;
  /** Hosts that an unsigned schedule may notify, and hosts of a private network that any schedule may notify. */
  readonly webhookHosts: readonly string[];
}

const CURE =
  "add it again with the secret that control has (EMBEDFLEET_SCHEDULE_SECRET, or on one machine the key in the user's configuration folder), or start control with --schedule-inputs";

export class SchedulePolicy {
  readonly #params: PolicyParams;

  /** @throws FleetError `bad_usage` for invalid hosts */
  constructor(params: PolicyParams) {
    this.#params = params;
    // Validates the hosts at the start, not when the first webhook is due.
    void this.#ruleFor({ isAnyHost: false });
  }

  /**
   * @returns The schedule to run: with links in its inputs resolved, unless it is signed.
   * @throws FleetError `schedule_refused`
   */
  async admit(schedule: Schedule): Promise<Schedule> {
    if (await this.#isSigned(schedule)) return schedule;
    const { inputs: allowed, models: own, allowedInputs } = this.#params;
    const flaw = schedule.signature === undefined ? "is not signed" : "is not signed with the secret of this process";
    if (allowed.length === 0)
      throw refused(schedule, `${flaw}, and no --schedule-inputs permit its inputs without that`);
    const { model, models = own } = schedule.options;
    if (models !== own || (model !== undefined && !/^[A-Za-z0-9][A-Za-z0-9._-]*$/.test(model)))
      throw refused(schedule, `${flaw}, and names a folder of models that is not this process's`);
    const outcome = await allowedInputs(schedule.inputs, allowed);
    if ("refused" in outcome)
      throw new FleetError(
        "schedule_refused",
        `the schedule may not read ${JSON.stringify(outcome.refused)}: ${outcome.why}`,
        { cure: "start control with --schedule-inputs and the folder or s3://bucket/prefix that schedules may read" },
      );
    return { ...schedule, inputs: outcome.inputs };
  }

  /** Places that symbolic links within the schedule's inputs must not lead out of; undefined if it is signed. */
  async linksBelow(schedule: Schedule): Promise<readonly string[] | undefined> {
    return (await this.#isSigned(schedule)) ? undefined : this.#params.inputs;
  }

  /** The reason and cure for a schedule that is not run; null when it is. */
  async whyRefused(schedule: Schedule): Promise<string | null> {
    try {
      await this.admit(schedule);
      return null;
    } catch (error) {
      if (!hasCode(error, "schedule_refused")) throw error;
      return `refused: ${sentenceOf(error)}`;
    }
  }

  /** The rule for the hosts that the schedule's webhook may notify. */
  async hookRule(schedule: Schedule): Promise<HookRule> {
    return this.#ruleFor({ isAnyHost: await this.#isSigned(schedule) });
  }

  #ruleFor({ isAnyHost }: Readonly<{ isAnyHost: boolean }>): HookRule {
    return new HookRule({ hosts: this.#params.webhookHosts, isAnyHost });
  }

  async #isSigned(schedule: Schedule): Promise<boolean> {
    const secret = await this.#params.secret();
    return secret !== null && isSignedWith(schedule, secret);
  }
}

/** The message with its cure, where only one text fits. */
export function sentenceOf({ message, cure }: FleetError): string {
  return cure === undefined ? message : `${message}; ${cure}`;
}

function refused({ name }: Schedule, why: string): FleetError {
  return new FleetError("schedule_refused", `the schedule ${name} ${why}`, { cure: CURE });
}
