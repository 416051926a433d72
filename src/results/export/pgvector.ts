/** PostgreSQL's COPY text with pgvector's types, and the matching table and indexes. */
import { FleetError } from "../../core/errors.ts";
import {
  denseOf,
  type ExportContext,
  type ExportFormat,
  fieldsOf,
  shortNumber,
  type Slice,
  sparseOf,
} from "./format.ts";

/** Dimension of sparse vectors, larger than every known vocabulary. Part of the column's type and of every value. */
const SPARSE_DIM = 1_048_576;
/** Largest dimension of pgvector's HNSW index of `vector`; that of `halfvec` is twice as large. */
const MAX_HNSW_DIM = 2000;

function schemaSql({ options, heads }: ExportContext): string {
  const { dim } = options.model;
  const columns = [
    "id text NOT NULL",
    "chunk bigint NOT NULL",
    "char_start bigint NOT NULL",
    "char_end bigint NOT NULL",
    "n_tokens bigint NOT NULL",
    ...(options.keepText ? ["text text NOT NULL"] : []),
    ...options.keep.map((name) => `"${name.replaceAll('"', '""')}" text`),
    ...(heads.includes("dense") ? [`dense vector(${dim}) NOT NULL`] : []),
    ...(heads.includes("sparse") ? [`sparse sparsevec(${SPARSE_DIM}) NOT NULL`] : []),
    "PRIMARY KEY (id, chunk)",
  ];
  return `CREATE EXTENSION IF NOT EXISTS vector;
-- halfvec(${dim}) for dense takes half the space; the files are the same.
CREATE TABLE embeddings (
  ${columns.join(",\n  ")}
);
`;
}

/** Vectors have unit length, so that the inner product is the cosine. */
function indexSql({ options, heads }: ExportContext): string {
  const { dim } = options.model;
  const dense =
    dim <= MAX_HNSW_DIM
      ? "CREATE INDEX ON embeddings USING hnsw (dense vector_ip_ops);\n"
      : `CREATE INDEX ON embeddings USING hnsw ((dense::halfvec(${dim})) halfvec_ip_ops);\n`;
  return heads.includes("dense") ? dense : "";
}

/** Escapes backslash, tab and line ends for COPY's text format; NUL is in no id and no text. */
function escape(text: string): string {
  return text.replaceAll("\\", "\\\\").replaceAll("\t", "\\t").replaceAll("\n", "\\n").replaceAll("\r", "\\r");
}

function copyLine(slice: Slice, row: number): string {
  const fields = fieldsOf(slice, row);
  const dense = denseOf(slice, row);
  const sparse = sparseOf(slice, row);
  const cells = Object.values(fields).map((value) => (value === null ? "\\N" : escape(String(value))));
  if (dense !== null) cells.push(`[${Array.from(dense, shortNumber).join(",")}]`);
  if (sparse !== null) cells.push(sparsevec(sparse, fields));
  return `${cells.join("\t")}\n`;
}

/** A `sparsevec` literal, with indices from 1. */
function sparsevec(
  { indices, values }: NonNullable<ReturnType<typeof sparseOf>>,
  { id, chunk }: ReturnType<typeof fieldsOf>,
): string {
  if (indices.length > 0 && indices.at(-1)! >= SPARSE_DIM) {
    throw new FleetError(
      "object_corrupt",
      `row ${id} chunk ${chunk} has the sparse index ${indices.at(-1)}; the table's dimension is ${SPARSE_DIM}`,
      { cure: "export without the sparse vectors: --heads dense" },
    );
  }
  return `{${Array.from(indices, (index, i) => `${index + 1}:${shortNumber(values[i]!)}`).join(",")}}/${SPARSE_DIM}`;
}

/** Loaded by `psql -f schema.sql`, `\copy embeddings FROM 'data/….copy'` for each file, `psql -f index.sql`. */
export const pgvector: ExportFormat = {
  heads: ["dense", "sparse"],
  sliceBytes: 16 * 1024 * 1024,
  describe: (context) => [
    { key: "schema.sql", body: Buffer.from(schemaSql(context)) },
    { key: "index.sql", body: Buffer.from(indexSql(context)) },
  ],
  encode: (slice, part) => [
    {
      key: `data/${part}.copy`,
      body: Buffer.from(Array.from(slice.picked, (row) => copyLine(slice, row)).join("")),
    },
  ],
};
