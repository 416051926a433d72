/** JSON Schemas of every record in a store or queue, made from the zod schemas that the program reads them with. */
import { z } from "zod";
import * as contracts from "../../dist/src/core/contracts.js";
import * as schedules from "../../dist/src/core/schedule.js";
import { onnxManifestSchema } from "../../dist/models/registry/manifest.js";

/** In the order of docs/reference/formats.md. */
const RECORDS = {
  "store-record": contracts.storeRecordSchema,
  "run-record": contracts.runRecordSchema,
  "window-plan": contracts.windowPlanSchema,
  "closed-record": contracts.closedRecordSchema,
  "cancelled-record": contracts.cancelledRecordSchema,
  "accepted-record": contracts.acceptedRecordSchema,
  manifest: contracts.manifestSchema,
  reject: contracts.rejectSchema,
  latest: contracts.latestSchema,
  schedule: schedules.scheduleSchema,
  "schedule-state": schedules.scheduleStateSchema,
  "tick-record": schedules.tickRecordSchema,
  "job-payload": contracts.jobPayloadSchema,
  "shard-stats": contracts.shardStatsSchema,
};

/**
 * Describes what may be written: fields with a default may be absent.
 * @returns {Record<string, any>} By name.
 */
export function jsonSchemas() {
  const entries = Object.entries(RECORDS).map(([name, schema]) => [name, z.toJSONSchema(schema, { io: "input" })]);
  return Object.fromEntries(entries);
}

/** The JSON Schema of a model's manifest.json with ONNX graphs, as people write one: what is read, not what is kept. */
export function modelManifestJsonSchema() {
  return {
    title: "model manifest",
    description:
      "manifest.json in a model's folder: its files, its sizes, and how its vectors are made. See docs/models.md.",
    ...z.toJSONSchema(onnxManifestSchema, { io: "output" }),
  };
}
