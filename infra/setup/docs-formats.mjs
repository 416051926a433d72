/** The parts of docs/reference/formats.md: records from their schemas, Arrow files from what the encoders write. */
import { readFileSync } from "node:fs";
import { tableFromIPC } from "apache-arrow";
import { z } from "zod";
import { encodeDeletes, encodeDocumentIndex } from "../../dist/src/arrow/document-index.js";
import { encodeResults } from "../../dist/src/arrow/results.js";
import { encodeStagedShard } from "../../dist/src/arrow/staged.js";
import * as backfill from "../../dist/src/core/schedule.js";
import * as contracts from "../../dist/src/core/contracts.js";
import * as selection from "../../dist/src/core/selection.js";
import { table } from "./docs-table.mjs";
import { root } from "./prepare.mjs";

const RECORDS = [
  { title: "runs/&lt;run&gt;/run.json", module: contracts, name: "runRecordSchema" },
  { title: "runs/&lt;run&gt;/plan/w000012.json", module: contracts, name: "windowPlanSchema" },
  { title: "runs/&lt;run&gt;/plan/closed.json", module: contracts, name: "closedRecordSchema" },
  { title: "runs/&lt;run&gt;/cancelled.json", module: contracts, name: "cancelledRecordSchema" },
  { title: "runs/&lt;run&gt;/manifest.json", module: contracts, name: "manifestSchema" },
  { title: "A line of runs/&lt;run&gt;/rejects/…jsonl", module: contracts, name: "rejectSchema" },
  { title: "latest.json", module: contracts, name: "latestSchema" },
  { title: "schedules/&lt;name&gt;.json", module: backfill, name: "scheduleSchema" },
  { title: "schedules/&lt;name&gt;/state.json", module: backfill, name: "scheduleStateSchema" },
  { title: "schedules/&lt;name&gt;/ticks/&lt;slot&gt;/&lt;event&gt;.json", module: backfill, name: "tickRecordSchema" },
  { title: "A job of the queue", module: contracts, name: "jobPayloadSchema" },
  { title: "`embedfleet.stats` of a result file", module: contracts, name: "shardStatsSchema" },
];

/** Fields that mean the same wherever they are. */
const GENERAL = {
  version: "Of the format; readers refuse another.",
  v: "Of the format; workers refuse another.",
  run: "The run's id.",
  createdAt: "When it was begun.",
  options: "All that decides what the rows and their vectors are.",
  lineage: "What the run builds on or takes the place of; absent for a full run that was asked for as one.",
  kind: "Of the run: `full`, `delta` or, in `run.json`, `compact`.",
  window: "The window's id.",
  shard: "The shard's id.",
  shards: "Shards.",
  windows: "Windows of the corpus.",
  documents: "Documents, rejects included.",
  rows: "Rows.",
  tokens: "Real tokens, special tokens included.",
  rejects: "Documents and rows that were refused.",
  stagedBytes: "Size of the window's staged file.",
  start: "First byte of the shard in the window's staged file.",
  end: "One past the last byte.",
  longest: "Tokens of the longest row.",
  key: "Of the object in the store, below `--out`.",
  bytes: "Bytes.",
  sha256: "Of the object's bytes.",
  cancelledAt: "When it was cancelled.",
  sealedAt: "When it was sealed.",
  totals: "Sums over all files.",
  files: "Result files.",
  lines: "Lines in it.",
  id: "Of the document; null where it has none.",
  chunk: "Number of the piece of the document, from 0.",
  textHash: "SHA-256 of the row's text, as planned.",
  reason: "In one word; see [sources](../sources.md#bad-input).",
  detail: "In one sentence.",
  line: "From 1.",
  name: "Of the schedule.",
  cron: "When, as a cron pattern.",
  tz: "The time zone that the pattern is read in.",
  overlapPolicy: "What becomes of a tick while the last run is still going.",
  inputs: "As typed.",
  isPaused: "No run is made while it is.",
  at: "When it happened.",
  realTokens: "Tokens that went through the model, padding left out.",
  paddedTokens: "What the model computed: rows x longest row, summed over batches.",
  batches: "Batches that went through the model.",
  deviceMs: "Time the device worked, in milliseconds.",
  idleMs: "Time it waited while the worker held jobs, in milliseconds.",
  idle: "The same by cause, in milliseconds.",
  deletes: "Of a delta: rows that it takes away from its base.",
  worker: "Its name.",
  loadMs: "Time to read the staged rows.",
  firstBatchAtMs: "When its first batch began.",
  lastBatchAtMs: "When its last batch ended.",
  assembleMs: "Time to put the results together.",
  model: "Exactly which model.",
  revision: "Of the model.",
  dim: "Width of dense and ColBERT vectors.",
  heads: "Vectors that are made.",
  precision: "Of the weights.",
  maxTokens: "Longest row, special tokens included; longer documents are cut.",
  chunking: "Where documents are cut; see [chunking](../chunking.md).",
  overlap: "Tokens that neighbouring chunks share.",
  format: "How inputs are read.",
  idField: "Where a document's id is found.",
  field: "By its dotted path.",
  operator: "How it is compared.",
  value: "With what, as it was typed.",
  since: "As asked with `--since`.",
  keepText: "Whether the output has the text.",
};

/** Parts that several records have are told once, under a heading of their own. */
const SHARED = [
  { title: "Options of a run", module: contracts, name: "runOptionsSchema" },
  { title: "Totals", module: contracts, name: "totalsSchema" },
];

export function recordSections() {
  const comments = new Map(["contracts", "selection", "schedule"].flatMap((file) => [...commentsOf(file)]));
  const sections = [...RECORDS, ...SHARED].map(({ title, module, name }) => {
    const rows = [...fieldsOf(module[name], name, comments)];
    return [`### ${title}`, ...(rows.length > 0 ? [table(["field", "type", "meaning"], rows)] : [])].join("\n\n");
  });
  return `\n${sections.join("\n\n")}\n`;
}

/** Docstrings of fields, by schema and field: `windowPlanSchema.rows`. */
function* commentsOf(file) {
  let schema = "";
  let variant = "";
  let comment = "";
  for (const line of readFileSync(`${root}/src/core/${file}.ts`, "utf8").split("\n")) {
    const begun = /^(?:export )?const (\w+) =/.exec(line)?.[1];
    if (begun !== undefined) [schema, variant] = [begun, ""];
    variant = /\bkind: z\.literal\("(\w+)"\)/.exec(line)?.[1] ?? variant;
    const said = /^\s+\/\*\* (.*) \*\/$/.exec(line)?.[1];
    const field = /^\s+(\w+):/.exec(line)?.[1];
    if (field !== undefined && comment !== "") yield [[schema, variant, field].filter(Boolean).join("."), comment];
    comment = said ?? "";
  }
}

/** Schemas with a name of their own, by identity. */
const NAMES = new Map([
  [contracts.runOptionsSchema, { shown: "[options of a run](#options-of-a-run)" }],
  [contracts.totalsSchema, { shown: "[totals](#totals)" }],
  [contracts.runIdSchema, { shown: "run id" }],
]);
/** Where the fields of nested schemas are commented. */
const OWNERS = new Map(
  Object.entries({ ...contracts, ...selection, ...backfill })
    .filter(([, value]) => value instanceof z.ZodType)
    .map(([name, value]) => [value, name]),
);

function* fieldsOf(schema, owner, comments, path = "") {
  const { def } = schema;
  if (def.type === "union") {
    // Of kinds: each has fields of its own.
    for (const option of def.options)
      yield* fieldsOf(
        option,
        `${owner}.${option.shape.kind.value}`,
        comments,
        `${path.slice(0, -1)} (${option.shape.kind.value}).`,
      );
    return;
  }
  const shape = schema.shape;
  for (const [name, given] of Object.entries(shape)) {
    const { inner, optional, many } = unwrapped(given);
    const shown = `${path}${name}${many ? "[]" : ""}`;
    yield [`\`${shown}\`${optional ? " (optional)" : ""}`, typeOf(given), plain(meaningOf(name, owner, comments))];
    if (NAMES.has(inner)) continue;
    if (inner.def.type === "object" || inner.def.type === "union")
      if (inner.def.type === "object" || inner.def.options.every(({ def: { type } }) => type === "object"))
        yield* fieldsOf(inner, OWNERS.get(inner) ?? owner, comments, `${shown}.`);
  }
}

function meaningOf(name, owner, comments) {
  const own = comments.get(`${owner}.${name}`) ?? comments.get(`selectionSchema.${name}`) ?? GENERAL[name];
  if (own === undefined) throw new Error(`${owner}.${name} has neither a docstring nor a general meaning here`);
  return own;
}

function unwrapped(schema) {
  let inner = schema;
  let optional = false;
  let many = false;
  for (;;) {
    const { type, innerType, element } = inner.def;
    if (type === "optional" || type === "default") optional = true;
    else if (type === "array") many = true;
    else if (type !== "nullable") return { inner, optional, many };
    inner = element ?? innerType;
  }
}

function typeOf(schema) {
  const named = NAMES.get(schema);
  if (named !== undefined) return named.shown;
  const { def } = schema;
  switch (def.type) {
    case "optional":
      return typeOf(def.innerType);
    case "default":
      return `${typeOf(def.innerType)}; \`${JSON.stringify(schema.parse(undefined))}\` where absent`;
    case "nullable":
      return `${typeOf(def.innerType)}, or null`;
    case "array":
      return `list of ${typeOf(def.element)}`;
    case "record":
      return `object: ${typeOf(def.valueType)} by ${typeOf(def.keyType)}`;
    case "object":
      return "object";
    case "union":
      return def.discriminator === undefined ? def.options.map(typeOf).join(" or ") : "object";
    default:
      return scalar(z.toJSONSchema(schema, { unrepresentable: "any" }));
  }
}

function scalar(json) {
  if ("const" in json) return `\`${JSON.stringify(json.const)}\``;
  if (json.enum !== undefined) return json.enum.map((value) => `\`${value}\``).join(", ");
  if (json.format === "date-time") return "time (ISO 8601, UTC)";
  if (json.format === "uri") return "URL";
  if (json.pattern === "^[0-9a-f]{64}$") return "SHA-256, hex";
  if (json.type === "string") return json.pattern === undefined ? "text" : `text like \`${json.pattern}\``;
  if (json.type === "boolean") return "true or false";
  if (json.type === "integer" || json.type === "number") return number(json);
  return "any JSON";
}

function number({ type, minimum, exclusiveMinimum, maximum }) {
  const least = exclusiveMinimum === undefined ? minimum : undefined;
  const most =
    maximum === undefined || maximum === Number.MAX_SAFE_INTEGER ? "" : `, at most ${maximum.toLocaleString("en")}`;
  const above = exclusiveMinimum === undefined ? "" : `, above ${exclusiveMinimum}`;
  const from =
    least === undefined || least <= -Number.MAX_SAFE_INTEGER ? "" : `, at least ${least.toLocaleString("en")}`;
  return `${type}${from}${above}${most}`;
}

/** Outside code, angle brackets would be HTML and stars emphasis. */
function plain(text) {
  const parts = text
    .split("`")
    .map((part, i) => (i % 2 === 1 ? part : part.replaceAll("<", "&lt;").replaceAll("*", "\\*")));
  return parts.join("`");
}

const COLUMNS = {
  id: "of the document",
  chunk: "number of the piece of the document, from 0",
  char_start: "first UTF-16 code unit of the document's text",
  char_end: "one past the last",
  n_tokens: "tokens, special tokens included",
  text_hash: "SHA-256 of the text that the model got",
  dense: "unit length; `halffloat` with `--vectors float16`",
  sparse: "token ids, ascending, and weights above 0",
  colbert: "a vector of unit length for each token but the first; `halffloat` with `--vectors float16`",
  text: "with `--keep-text`",
  lang: "a field of `--keep`, under its own name; null where the document lacks it",
  "keep:lang": "a field of `--keep`",
  tokens: "ids, special tokens included",
  content_key: "first 16 bytes of the SHA-256 of the text and whatever else is carried",
  chunks: "rows that the document was cut into",
  reason: "`removed`: the document is gone or refused; `changed`: it has other content",
};

export function arrowSections() {
  return `\n${samples().map(arrowSection).join("\n\n")}\n`;
}

function arrowSection([title, what, bytes]) {
  const { schema } = tableFromIPC(bytes);
  const rows = schema.fields.map(({ name, type, nullable }) => {
    const meaning = COLUMNS[name];
    if (meaning === undefined) throw new Error(`the column ${name} has no meaning in infra/setup/docs-formats.mjs`);
    return [`\`${name}\``, `\`${shownType(type)}\`${nullable ? ", or null" : ""}`, meaning];
  });
  const metadata = [...schema.metadata.keys()].map((key) => `\`${key}\``).join(", ");
  return [
    `### ${title}`,
    what,
    table(["column", "type", "meaning"], rows),
    `Metadata of the schema: ${metadata}.`,
  ].join("\n\n");
}

/** `[1024]` as the sample has it becomes the model's width. */
function shownType(type) {
  return String(type)
    .replaceAll(/FixedSizeList\[4\]/g, "FixedSizeList[dim]")
    .replaceAll("&", "");
}

/** One of each, from the encoders that write them; its vectors are 4 wide. */
function samples() {
  const model = { id: "m", revision: "r", sha256: "0".repeat(64), dim: 4, maxTokens: 8 };
  const options = contracts.runOptionsSchema.parse({
    model,
    heads: ["dense", "sparse", "colbert"],
    precision: "fp32",
    maxTokens: 8,
    chunking: "document",
    chunkTokens: 8,
    overlap: 0,
    format: "auto",
    idField: "id",
    textFields: ["text"],
    where: [],
    sample: 1,
    limit: null,
    keep: ["lang"],
    keepText: true,
    maxDocumentBytes: 1,
  });
  const stats = contracts.shardStatsSchema.parse({
    rows: 1,
    rejects: 0,
    realTokens: 2,
    paddedTokens: 2,
    batches: 1,
    deviceMs: 1,
    idleMs: 0,
  });
  const one = Uint32Array.of(1);
  const common = {
    ids: ["a"],
    chunks: Uint32Array.of(0),
    charStarts: Uint32Array.of(0),
    charEnds: one,
    textHashes: new Uint8Array(32),
    texts: ["a"],
    kept: [{ name: "lang", values: ["en"] }],
  };
  const offsets = Uint32Array.of(0, 1);
  const results = {
    ...common,
    tokenCounts: one,
    dim: 4,
    dense: new Float32Array(4),
    sparse: { offsets, indices: one, values: Float32Array.of(1) },
    colbert: { offsets, values: new Float32Array(4) },
  };
  const staged = { ...common, offsets, tokenIds: Int32Array.of(1) };
  const run = "r";
  const shard = "w000000-s0000";
  const index = { ids: ["a"], contentKeys: new Uint8Array(16), chunks: one };
  const deletes = { ids: ["a"], chunks: one, reasons: ["removed"] };
  return [
    [
      "runs/&lt;run&gt;/data/&lt;shard&gt;.arrow",
      "Arrow IPC file, one record batch, not compressed; the rows of a shard in planned order.",
      encodeResults(results, { run, shard, options, stats, rejectsKey: "runs/r/rejects/x.jsonl" }),
    ],
    [
      "runs/&lt;run&gt;/plan/w000012.arrows",
      "One Arrow IPC stream a shard, one after the other; the plan has their byte ranges. Removed after the seal unless `--keep-staging`.",
      encodeStagedShard({ run, shard, rows: staged }),
    ],
    [
      "runs/&lt;run&gt;/index/w000012.arrow",
      "Arrow IPC file; the documents of a window, for the deltas to come.",
      encodeDocumentIndex(run, index),
    ],
    [
      "runs/&lt;run&gt;/deletes.arrow",
      "Arrow IPC file, of a delta; goes on in `deletes-0001.arrow` and so on.",
      encodeDeletes(run, deletes),
    ],
  ];
}
