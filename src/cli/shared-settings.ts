/** Settings that several commands have besides those of the fleet. */
import { z } from "zod";
import { s3Settings } from "../fleet/settings.ts";

export const logSettings = z.object({
  logLevel: z.enum(["debug", "info", "warn", "error", "silent"]).default("info").meta({
    value: "level",
    description: "least severe level of log lines to print",
  }),
  logFormat: z.enum(["json", "pretty"]).exactOptional().meta({
    value: "format",
    description: "format of log lines on standard error",
    byDefault: "pretty in a terminal, else json",
  }),
});

export const jsonSettings = z.object({
  json: z.boolean().default(false).meta({ description: "print one JSON object on standard output at the end" }),
});

/** Settings of commands that read a store; last in their help. */
export const s3AndLog = { ...s3Settings.shape, ...logSettings.shape };

export const deviceSchema = z.strictObject({ kind: z.string(), index: z.int().min(0) });

export const placeSettings = z.object({
  device: z
    .array(z.union([z.literal("auto"), deviceSchema]))
    .min(1)
    .default(["auto"])
    .meta({
      value: "names",
      description: "devices that run the model: auto, cpu, cuda:N or tensorrt:N, separated by commas",
      byDefault: "auto",
    }),
});

export type LogSettings = z.infer<typeof logSettings>;
