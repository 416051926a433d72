/**
 * The last step of the build: JSON Schemas of every record in a store or queue, made from the zod schemas that the
 * program reads them with. The package publishes them as `embedfleet/schemas/<name>.json`.
 */
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import * as contracts from "../../dist/src/core/contracts.js";
import * as schedules from "../../dist/src/core/schedule.js";

/** In the order of docs/reference/formats.md. */
const RECORDS = {
  "run-record": contracts.runRecordSchema,
  "window-plan": contracts.windowPlanSchema,
  "closed-record": contracts.closedRecordSchema,
  "cancelled-record": contracts.cancelledRecordSchema,
  manifest: contracts.manifestSchema,
  reject: contracts.rejectSchema,
  latest: contracts.latestSchema,
  schedule: schedules.scheduleSchema,
  "schedule-state": schedules.scheduleStateSchema,
  "tick-record": schedules.tickRecordSchema,
  "job-payload": contracts.jobPayloadSchema,
  "shard-stats": contracts.shardStatsSchema,
};

const folder = fileURLToPath(new URL("../../dist/schemas", import.meta.url));

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  for (const [name, schema] of Object.entries(jsonSchemas()))
    writeFileSync(`${folder}/${name}.json`, `${JSON.stringify(schema, null, 2)}\n`);
}

/**
 * Describes what may be written: fields with a default may be absent.
 * @returns {Record<string, any>} By name.
 */
export function jsonSchemas() {
  const entries = Object.entries(RECORDS).map(([name, schema]) => [name, z.toJSONSchema(schema, { io: "input" })]);
  return Object.fromEntries(entries);
}
