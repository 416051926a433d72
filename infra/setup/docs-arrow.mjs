/** The tables of Arrow files in docs/reference/formats.md, from what the encoders write. */
import { tableFromIPC } from "apache-arrow";
import { encodeDeletes, encodeDocumentIndex } from "../../dist/src/arrow/document-index.js";
import { encodeResults } from "../../dist/src/arrow/results.js";
import { encodeStagedShard } from "../../dist/src/arrow/staged.js";
import { runOptionsSchema, shardStatsSchema } from "../../dist/src/core/contracts.js";
import { table } from "./docs-table.mjs";

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
    if (meaning === undefined) throw new Error(`the column ${name} has no meaning in infra/setup/docs-arrow.mjs`);
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
  const options = runOptionsSchema.parse({
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
  const stats = shardStatsSchema.parse({
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
