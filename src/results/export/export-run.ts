/** Exports a sealed run and its bases as files that another system loads. Memory holds a few result files. */
import { isDeepStrictEqual } from "node:util";
import { z } from "zod";
import type { ResultRows } from "../../arrow/results.ts";
import { type Head, headSchema, runIdSchema } from "../../core/contracts.ts";
import { FleetError } from "../../core/errors.ts";
import { findRecord, readRecord, toJsonBytes } from "../../core/json.ts";
import type { ObjectStore } from "../../core/ports.ts";
import { readChain, readEffective } from "../../run/chain.ts";
import { jsonl, opensearch, qdrant } from "./json-formats.ts";
import type { ExportContext, ExportedFile, ExportFormat, ExportFormatName } from "./format.ts";
import { numpy } from "./numpy.ts";
import { milvus, parquet } from "./parquet-writer.ts";
import { pgvector } from "./pgvector.ts";

const FORMATS: Readonly<Record<ExportFormatName, ExportFormat>> = {
  jsonl,
  milvus,
  numpy,
  opensearch,
  parquet,
  pgvector,
  qdrant,
};

/** Starts with an underscore, because readers of whole folders skip such files. */
const RECORD_KEY = "_export.json";
const FILES_KEY = "_files.json";
const MAX_FILES_BYTES = 256 * 1024 * 1024;

/** Record of the run that a folder is an export of. Written first, so that two exports never mix in it. */
const recordSchema = z.strictObject({ run: runIdSchema, format: z.string(), heads: z.array(headSchema) });
const filesSchema = z.strictObject({
  rows: z.int().min(0),
  files: z.array(z.strictObject({ key: z.string(), bytes: z.int().min(0) })),
});

export interface ExportReport {
  readonly run: string;
  readonly format: ExportFormatName;
  readonly heads: readonly Head[];
  readonly rows: number;
  readonly files: number;
  readonly bytes: number;
}

/**
 * Continues an interrupted export, and leaves a complete one unchanged: names derive from the run.
 * @throws FleetError `run_unknown`, `run_incomplete`; `bad_usage` for heads the run or the target does not have;
 *   `run_conflict` when `dest` holds another export.
 */
export async function exportRun(
  params: Readonly<{
    store: ObjectStore;
    run: string;
    format: ExportFormatName;
    dest: ObjectStore;
    /** By default all that run and format have. */
    heads?: readonly Head[] | undefined;
    onFile?: (done: number, planned: number) => void;
  }>,
): Promise<ExportReport> {
  const { store, run, dest } = params;
  const format = FORMATS[params.format];
  const chain = await readChain(store, run);
  const { options } = chain[0]!;
  const heads = chooseHeads(params, options.heads, format.heads);
  await claim(dest, { run, format: params.format, heads });
  const whole = await findRecord(dest, FILES_KEY, filesSchema, MAX_FILES_BYTES);
  const written = whole ?? { rows: 0, files: [] };
  if (whole === null) {
    const context: ExportContext = { run, options, heads };
    const write = async (files: readonly ExportedFile[]): Promise<void> => {
      for (const { key, body } of files) {
        await dest.create({ key, body });
        written.files.push({ key, bytes: body.length });
      }
    };
    await write(format.describe(context));
    const planned = chain.reduce((sum, manifest) => sum + manifest.files.length, 0);
    let done = 0;
    for await (const { manifest, shard, rows, kept } of readEffective(store, chain)) {
      let n = 0;
      for (const picked of slices(rows, kept, heads, format.sliceBytes)) {
        const part = `${manifest.run}-${shard}-${String(n++).padStart(4, "0")}`;
        await write(format.encode({ rows, picked, heads }, part, context));
        written.rows += picked.length;
      }
      params.onFile?.(++done, planned);
    }
    await dest.create({ key: FILES_KEY, body: toJsonBytes(written) });
  }
  const bytes = written.files.reduce((sum, file) => sum + file.bytes, 0);
  return { run, format: params.format, heads, rows: written.rows, files: written.files.length, bytes };
}

function chooseHeads(
  params: Readonly<{ run: string; format: string; heads?: readonly Head[] | undefined }>,
  ofRun: readonly Head[],
  ofFormat: readonly Head[],
): Head[] {
  const { run, format, heads } = params;
  const both = ofRun.filter((head) => ofFormat.includes(head));
  const lacking = (heads ?? []).filter((head) => !both.includes(head));
  if (lacking.length === 0 && both.length > 0) return both.filter((head) => heads?.includes(head) ?? true);
  const why = lacking.some((head) => !ofRun.includes(head)) ? `run ${run} has only` : `${format} takes only`;
  const there = why.startsWith("run") ? ofRun : ofFormat;
  throw new FleetError("bad_usage", `${why} ${there.join(" and ")} vectors`, {
    cure: both.length > 0 ? `leave --heads out or set --heads ${both.join(",")}` : "embed the corpus with other heads",
  });
}

async function claim(dest: ObjectStore, wanted: z.infer<typeof recordSchema>): Promise<void> {
  if ((await dest.create({ key: RECORD_KEY, body: toJsonBytes(wanted) })) === "created") return;
  const found = await readRecord(dest, RECORD_KEY, recordSchema);
  if (isDeepStrictEqual(found, wanted)) return;
  throw new FleetError(
    "run_conflict",
    `${dest.url} holds an export of run ${found.run} as ${found.format} with ${found.heads.join(", ")}`,
    { cure: "choose another --dest, or empty this one first" },
  );
}

/** The rows in slices of at most `maxBytes` of vectors and text, or of one row. */
function* slices(
  rows: ResultRows,
  kept: Uint32Array,
  heads: readonly Head[],
  maxBytes: number,
): Generator<Uint32Array> {
  let from = 0;
  let bytes = 0;
  for (let i = 0; i < kept.length; i++) {
    const size = sizeOf(rows, kept[i]!, heads);
    if (i > from && bytes + size > maxBytes) {
      yield kept.subarray(from, i);
      from = i;
      bytes = 0;
    }
    bytes += size;
  }
  if (from < kept.length) yield kept.subarray(from);
}

function sizeOf({ sparse, colbert, texts, dim }: ResultRows, row: number, heads: readonly Head[]): number {
  const count = (list: { offsets: Uint32Array } | null): number =>
    list === null ? 0 : list.offsets[row + 1]! - list.offsets[row]!;
  let floats = heads.includes("dense") ? dim : 0;
  if (heads.includes("sparse")) floats += 2 * count(sparse);
  if (heads.includes("colbert")) floats += dim * count(colbert);
  return 4 * floats + (texts?.[row]?.length ?? 0);
}
