/** Validation of settings where a caller passes them, with errors that name the setting. */
import { z } from "zod";
import { FleetError } from "../core/errors.ts";

/**
 * Validates the given settings and adds the defaults, which are those of the command line.
 * @throws FleetError `bad_usage` for an invalid value
 */
export function withDefaults<Schema extends z.ZodObject>(schema: Schema, given: object): z.output<Schema> {
  const said = Object.entries(given).filter(([, value]) => value !== undefined);
  const parsed = schema.safeParse(Object.fromEntries(said));
  if (parsed.success) return parsed.data;
  const [{ path }] = parsed.error.issues as [z.core.$ZodIssue];
  const name = String(path[0]);
  const field = schema.shape[name] as z.ZodType;
  // The value is not repeated, because it may be a secret.
  throw new FleetError("bad_usage", `the setting ${name} cannot be used as given`, {
    cure: `it must be ${requirement(field, parsed.error)}`,
  });
}

/** The schema without its default and optional wrappers. */
export function bareSchema(schema: z.ZodType): z.ZodType {
  if (schema instanceof z.ZodDefault || schema instanceof z.ZodExactOptional || schema instanceof z.ZodOptional)
    return bareSchema(schema.unwrap() as z.ZodType);
  return schema;
}

/** The requirement on a setting's value, as the end of a sentence. */
export function requirement(schema: z.ZodType, error: z.ZodError): string {
  const bare = bareSchema(schema);
  if (bare instanceof z.ZodEnum) return `one of ${bare.options.join(", ")}`;
  if (bare instanceof z.ZodNumber && bare.isInt) return rangeOf(bare);
  const issue = error.issues[0];
  return issue?.code === "invalid_type" ? `of type ${issue.expected}` : (issue?.message ?? "another value");
}

function rangeOf({ minValue, maxValue }: z.ZodNumber): string {
  if (maxValue === null || maxValue >= Number.MAX_SAFE_INTEGER) return `a whole number of at least ${minValue}`;
  return `a whole number from ${minValue} to ${maxValue}`;
}
